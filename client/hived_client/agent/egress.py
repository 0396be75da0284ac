"""What keeps a local call local where another library makes it: a client that can reach one server only.

LiteLLM takes a ``client``, and each of its ways to a server wants another kind: OpenAI's SDK for some
prefixes, its own wrapper of httpx for others, and which one is which has changed with its versions. So the
client made here is both, on one httpx client under which a guard stands: whatever is asked of it, nothing
leaves for another origin, no redirect is followed, no proxy is used, no key is sent but the server's own,
and an answer is bounded. Nothing of LiteLLM's is changed: what the user's own calls do is theirs.
"""

from __future__ import annotations

import functools
import importlib
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Self

from hived_client.agent.call_faults import broken_off, no_connection, said_no
from hived_client.agent.chat import CONNECT, ENDLESS, MOST_BYTES, MOST_ERROR, MOST_LINE
from hived_client.agent.dialects import Broken, Reader, dialect_of
from hived_client.errors import CallFailed
from hived_client.resolution import Target
from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import address, shown_url

if TYPE_CHECKING:
    import httpx

_OF_OTHERS = ("openai-organization", "openai-project", "cookie", "proxy-authorization")
"""Headers that a library makes of the user's environment, and that are no business of a local server."""

_OF_THE_SDK = "cast_to"
"""An argument that OpenAI's SDK has for a request, and LiteLLM's wrapper has not."""

_OF_THE_WIRE = ("content-length", "transfer-encoding", "location")
"""Headers of an answer that is passed on whole, and that are not passed on."""


class Guard:
    """What may go to one server and come from it.

    ``reads``: each answer is a stream that is read along, so that the guard knows what the server itself
    said, and whether it said its last word. For one call at a time.
    """

    def __init__(self, target: Target, *, reads: bool = False) -> None:
        self.target = target
        self.requests = 0
        self.last: Exchange | None = None
        self._reads = reads
        self._origin = _origin(target.api_base)

    def __repr__(self) -> str:
        return f"<Guard {shown_url(self.target.api_base)} {self.requests} requests>"

    def admit(self, request: httpx.Request) -> Exchange:
        """Let a request out, with the server's own key. Raises ``CallFailed`` for another server's."""
        exchange = self.last = Exchange(self.target, reads=self._reads)
        url = request.url
        if (url.scheme, *address(str(url))) != self._origin:
            other = f"{url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}"
            raise exchange.failed(fault("call.astray", model=self.target.name, other=other))
        self.requests += 1
        for name in (*_OF_OTHERS, "authorization"):
            request.headers.pop(name, None)
        if self.target.api_key:
            request.headers["Authorization"] = f"Bearer {self.target.api_key}"
        request.headers["Accept-Encoding"] = "identity"
        timeout = dict(request.extensions.get("timeout") or {})
        timeout["connect"] = min(timeout.get("connect") or CONNECT, CONNECT)
        request.extensions = {**request.extensions, "timeout": timeout}
        return exchange


class Exchange:
    """One request and what came of it."""

    def __init__(self, target: Target, *, reads: bool) -> None:
        self.heard = 0
        """Pieces that have come."""
        self.failure: CallFailed | None = None
        """What is wrong, in hived's words."""
        self.over = False
        """Whether the server ended its answer."""
        self.reader: Reader = dialect_of(target.model.partition("/")[0]).reader()
        self._target = target
        self._reads = reads
        self._seen = bytearray()
        self._rest = b""
        self._line = 0
        self._total = 0

    def failed(self, fault: Fault) -> CallFailed:
        """Keep what is wrong, and return it as an error."""
        self.failure = CallFailed(fault)
        return self.failure

    def judge(self, response: httpx.Response, body: bytes) -> httpx.Response:
        """Take in an answer that is none, and return what may be passed on of it.

        Of a redirect that is hived's sentence, and not the address.
        """
        import httpx

        failure = self.failed(said_no(self._target, response.status_code, body))
        if not 300 <= response.status_code < 400 and "content-encoding" not in response.headers:
            kept = {name: value for name, value in response.headers.items() if name not in _OF_THE_WIRE}
            return httpx.Response(response.status_code, headers=kept, content=body)
        status = response.status_code if response.status_code != 200 else 502
        return httpx.Response(status, json={"error": {"message": str(failure)}})

    def hear(self, chunk: bytes) -> None:
        """Take in a piece of an answer. Raises ``CallFailed`` for one without an end, and for an error."""
        self.heard += 1
        self._total += len(chunk)
        self._line = len(chunk) - chunk.rindex(b"\n") - 1 if b"\n" in chunk else self._line + len(chunk)
        if self._line > MOST_LINE or self._total > MOST_BYTES:
            raise self.failed(said_no(self._target, 200, ENDLESS.encode()))
        if self._reads:
            self._read(chunk)

    def end(self) -> CallFailed | None:
        """Return what is wrong with an answer that was read; ``None`` where all is well.

        A stream that the server ended without its last word was cut off. One that LiteLLM left was not: it
        may need no more than the count of tokens, which stands before that word.
        """
        if self.failure is None and self._reads and self.over and not self.reader.done:
            self.failed(said_no(self._target, 200, bytes(self._seen[:MOST_ERROR]), cut_off=True))
        return self.failure

    def lost(self, error: Exception) -> CallFailed:
        """Return the fault for an error of httpx's."""
        import httpx

        connecting = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)
        if isinstance(error, connecting):
            return self.failed(no_connection(self._target, error))
        return self.failed(broken_off(self._target, error))

    def _read(self, chunk: bytes) -> None:
        if len(self._seen) < MOST_ERROR:
            self._seen += chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        try:
            for line in lines:
                if not self.reader.done:
                    self.reader.read(line.rstrip(b"\r"))
        except Broken as error:
            raise self.failed(said_no(self._target, 200, str(error).encode())) from error


def local_client(target: Target, *, asynchronous: bool, guard: Guard | None = None) -> Any:
    """Return a client for LiteLLM's argument ``client``, which reaches the target's server and no other.

    Ends with ``close()`` (to be awaited where it is asynchronous). LiteLLM must have been imported.
    """
    handlers = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    if asynchronous:
        return _made(_AsyncClient, handlers.AsyncHTTPHandler)(guard or Guard(target))
    return _made(_SyncClient, handlers.HTTPHandler)(guard or Guard(target))


# What LiteLLM is given.


class _Both:
    """An answer to both of LiteLLM's ways of asking: ``post`` and ``client``, and OpenAI's SDK."""

    _guard: Guard
    _asynchronous: bool

    def __getattr__(self, name: str) -> Any:
        # Asked for what LiteLLM's wrapper has not: the SDK's `chat`, `api_key`, `_base_url`.
        if name.startswith("__") or name in ("_sdk", "_guard", "client", "_client"):
            raise AttributeError(name)
        return getattr(self._sdk_of_its_own(), name)

    def __del__(self) -> None:
        """Do nothing: LiteLLM's would close it in whichever event loop runs by then."""

    def _sdk_of_its_own(self) -> Any:
        if "_sdk" not in self.__dict__:
            self.__dict__["_sdk"] = self._made_sdk()
        return self.__dict__["_sdk"]

    def _made_sdk(self) -> Any:
        openai = importlib.import_module("openai")
        make = openai.AsyncOpenAI if self._asynchronous else openai.OpenAI
        target = self._guard.target
        return make(
            api_key=target.api_key or "none",
            base_url=target.api_base,
            http_client=_http(self._guard, asynchronous=self._asynchronous),
            max_retries=0,
        )


class _AsyncClient(_Both):
    _asynchronous = True

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        super().__init__()

    def create_client(self, *args: object, **kwargs: object) -> Any:
        """Make the client that LiteLLM's wrapper uses, now or when it tries again."""
        return _http(self._guard, asynchronous=True)

    async def post(self, *args: Any, **kwargs: Any) -> Any:
        """Post as the SDK does where that is meant, else as LiteLLM's wrapper does: both have this name."""
        if _OF_THE_SDK in kwargs:
            return await self._sdk_of_its_own().post(*args, **kwargs)
        return await super().post(*args, **kwargs)  # type: ignore[misc]

    async def close(self) -> None:
        """End its connections. Idempotent."""
        sdk = self.__dict__.pop("_sdk", None)
        if sdk is not None:
            await sdk.close()
        if not self.client.is_closed:
            await self.client.aclose()


class _SyncClient(_Both):
    _asynchronous = False

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        super().__init__(client=_http(guard, asynchronous=False))  # type: ignore[call-arg]

    def create_client(self, *args: object, **kwargs: object) -> Any:
        """Make the client that LiteLLM's wrapper uses."""
        return _http(self._guard, asynchronous=False)

    def post(self, *args: Any, **kwargs: Any) -> Any:
        """Post as the SDK does where that is meant, else as LiteLLM's wrapper does: both have this name."""
        if _OF_THE_SDK in kwargs:
            return self._sdk_of_its_own().post(*args, **kwargs)
        return super().post(*args, **kwargs)  # type: ignore[misc]

    def close(self) -> None:
        """End its connections. Idempotent."""
        sdk = self.__dict__.pop("_sdk", None)
        if sdk is not None:
            sdk.close()
        if not self.client.is_closed:
            self.client.close()


# What stands under it.


def _http(guard: Guard, *, asynchronous: bool) -> Any:
    """Return a client of httpx's over the guard."""
    import httpx

    verify = _certificates() if guard.target.api_base.startswith("https:") else False
    if asynchronous:
        return httpx.AsyncClient(
            transport=_made(_AsyncTransport, httpx.AsyncBaseTransport)(
                guard, httpx.AsyncHTTPTransport(verify=verify, trust_env=False)
            ),
            follow_redirects=False,
            trust_env=False,
        )
    return httpx.Client(
        transport=_made(_SyncTransport, httpx.BaseTransport)(
            guard, httpx.HTTPTransport(verify=verify, trust_env=False)
        ),
        follow_redirects=False,
        trust_env=False,
    )


class _AsyncTransport:
    def __init__(self, guard: Guard, inner: httpx.AsyncHTTPTransport) -> None:
        self._guard, self._inner = guard, inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        import httpx

        exchange = self._guard.admit(request)
        try:
            response = await self._inner.handle_async_request(request)
            if response.status_code == 200 and "content-encoding" not in response.headers:
                response.stream = _made(_AsyncPieces, httpx.AsyncByteStream)(exchange, response.stream)
                return response
            body = bytearray()
            async for chunk in response.stream:  # type: ignore[union-attr]
                body += chunk
                if len(body) >= MOST_ERROR:
                    break
            await response.aclose()
        except httpx.HTTPError as error:
            raise exchange.lost(error) from error
        return exchange.judge(response, bytes(body[:MOST_ERROR]))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


class _SyncTransport:
    def __init__(self, guard: Guard, inner: httpx.HTTPTransport) -> None:
        self._guard, self._inner = guard, inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        import httpx

        exchange = self._guard.admit(request)
        try:
            response = self._inner.handle_request(request)
            if response.status_code == 200 and "content-encoding" not in response.headers:
                response.stream = _made(_SyncPieces, httpx.SyncByteStream)(exchange, response.stream)
                return response
            body = bytearray()
            for chunk in response.stream:  # type: ignore[union-attr]
                body += chunk
                if len(body) >= MOST_ERROR:
                    break
            response.close()
        except httpx.HTTPError as error:
            raise exchange.lost(error) from error
        return exchange.judge(response, bytes(body[:MOST_ERROR]))

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _AsyncPieces:
    def __init__(self, exchange: Exchange, inner: Any) -> None:
        self._exchange, self._inner = exchange, inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        import httpx

        try:
            async for chunk in self._inner:
                self._exchange.hear(chunk)
                yield chunk
            self._exchange.over = True
        except httpx.HTTPError as error:
            raise self._exchange.lost(error) from error

    async def aclose(self) -> None:
        await self._inner.aclose()


class _SyncPieces:
    def __init__(self, exchange: Exchange, inner: Any) -> None:
        self._exchange, self._inner = exchange, inner

    def __iter__(self) -> Iterator[bytes]:
        import httpx

        try:
            for chunk in self._inner:
                self._exchange.hear(chunk)
                yield chunk
            self._exchange.over = True
        except httpx.HTTPError as error:
            raise self._exchange.lost(error) from error

    def close(self) -> None:
        self._inner.close()


@functools.cache
def _made(own: type, base: type) -> Any:
    """Put a class of ours before one of a library that is only imported when it is needed."""
    return type(own.__name__, (own, base), {})


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Read the system's certificates, which takes 20 ms, once."""
    import httpx

    return httpx.create_ssl_context(trust_env=False)


def _origin(url: str) -> tuple[str, str, int]:
    return (url.partition(":")[0].lower(), *address(url.lower()))
