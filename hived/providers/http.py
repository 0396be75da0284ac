"""The one HTTP client. Every answer is bounded in bytes and time, and nothing in it is trusted.

No proxy (a proxy variable would send loopback elsewhere), no redirect, no cookies, no ``Origin`` header
(Ollama refuses it), no compression (a bomb is a few bytes), and no connection kept (llama.cpp spends a
thread on each).
"""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import anyio
import anyio.lowlevel
import httpcore
import httpx
import msgspec

from hived.decisions.outcomes import NoAnswer, Silence
from hived_client.errors import causes_of

CONNECT_TIMEOUT = 1.0
"""Seconds to connect to a server."""
LOOK_TIMEOUT = 1.0
"""Seconds for a whole answer to a look at this device; a server that is alive answers in milliseconds."""
FAR_TIMEOUT = 3.0
"""Seconds for a whole answer from another machine."""
HELD = 0.02
"""Seconds by which a deadline is missed where we ourselves were held (SIGSTOP, a machine that does not get to
us): the server may have answered long ago, and is asked again."""
TRIES = 5
"""Times that a server is asked because of that, at most."""
SMALL = 64 * 1024
"""Bytes that a health answer may have."""
MEDIUM = 1024 * 1024
"""Bytes that an answer with a chat template may have."""
LARGE = 16 * 1024 * 1024
"""Bytes that an inventory may have."""
LINE = 1024 * 1024
"""Bytes that a line of an event stream may have."""
PIECE = 1024
"""Bytes as which a piece of an answer counts at least: to read one costs the same however small it is."""
SIP = 8 * 1024
"""Bytes that are read from a connection at once. Every piece in them is taken out before the next wait, which
is the first place where an answer can be left; to read an inventory in more sips costs next to nothing."""
TURN = 64
"""Pieces after which other tasks have their turn: a sip may hold some hundred."""
EVENT = 256
"""Bytes as which a line of an event stream counts at least: one that is short costs the same."""
EVENTS_RATE = 128 * 1024
"""Bytes of events that a server may send in a second for long; ``LINE`` of them may come at once. A router
that loads models sends some hundreds."""
PUSH_IDLE = 300.0
"""Seconds after which a silent event stream is opened again."""

_HEADERS = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "hived"}


class Unusable(Exception):
    """There was no answer that can be used; ``outcome`` says how."""

    def __init__(self, kind: Silence, why: str, *, cut: bool = False) -> None:
        super().__init__(why)
        self.outcome = NoAnswer(kind=kind, why=why, cut=cut)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> object:
        """Decode the body; ``None`` for anything that is not JSON."""
        try:
            value: object = msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return None
        return value


class Http:
    """Fetches. One for the daemon's lifetime, on the loop that it was made on."""

    def __init__(self) -> None:
        # On plain HTTP the TLS context would be nine tenths of the client's cost, so it has its own client.
        self._plain = _client(verify=False)
        self._secure: httpx.AsyncClient | None = None
        self.requests = 0

    def __repr__(self) -> str:
        return f"<Http {self.requests} requests>"

    async def aclose(self) -> None:
        """Close what is open."""
        await self._plain.aclose()
        if self._secure is not None:
            await self._secure.aclose()

    async def get(self, url: str, *, limit: int, timeout: float, key: str | None = None) -> Answer:
        """Fetch. Raises ``Unusable`` for anything but a whole answer within the bounds."""
        return await self._whole("GET", url, None, limit=limit, timeout=timeout, key=key)

    async def post(self, url: str, document: object, *, limit: int, timeout: float) -> Answer:
        """Ask with a JSON document, where a question that changes nothing needs one. Raises as ``get``."""
        return await self._whole(
            "POST", url, msgspec.json.encode(document), limit=limit, timeout=timeout, key=None
        )

    async def listen(
        self, url: str, told: Callable[[bytes], None], *, timeout: float, key: str | None = None
    ) -> None:
        """Hand every line of an endless answer to ``told`` until it ends.

        ``timeout`` bounds its beginning; afterwards silence is bounded. Raises ``Unusable``.
        """
        self.requests += 1
        try:
            with anyio.fail_after(timeout) as idle:
                async with self._stream(url, key=key, accept="text/event-stream") as response:
                    if response.status_code != 200:
                        raise Unusable("broken", f"status {response.status_code}")
                    rest, allowed, at = b"", float(LINE), anyio.current_time()
                    idle.deadline = at + PUSH_IDLE

                    def take(chunk: bytes) -> bool:
                        nonlocal rest, allowed, at
                        now = anyio.current_time()
                        *whole, rest = (rest + chunk).split(b"\n")
                        cost = max(len(chunk), EVENT * len(whole))
                        allowed, at = min(LINE, allowed + (now - at) * EVENTS_RATE) - cost, now
                        idle.deadline = now + PUSH_IDLE
                        for line in whole:
                            told(line.rstrip(b"\r"))
                        return len(rest) <= LINE and allowed >= 0.0

                    if not await _read(response, take):
                        raise Unusable("broken", "its events are too many or have no end")
        except TimeoutError as error:
            raise Unusable("silent", "nothing came") from error

    async def _whole(
        self, method: str, url: str, content: bytes | None, *, limit: int, timeout: float, key: str | None
    ) -> Answer:
        for _ in range(TRIES):
            until, worked = anyio.current_time() + timeout, time.process_time()
            try:
                return await self._whole_once(method, url, content, limit=limit, timeout=timeout, key=key)
            except TimeoutError:
                # Work is no hold: a server that keeps us busy must not be asked the more often for it.
                if anyio.current_time() - until - (time.process_time() - worked) < HELD:
                    break
        raise Unusable("silent", f"no whole answer within {timeout:g} s")

    async def _whole_once(
        self, method: str, url: str, content: bytes | None, *, limit: int, timeout: float, key: str | None
    ) -> Answer:
        self.requests += 1
        body, cost = bytearray(), 0

        def take(chunk: bytes) -> bool:
            nonlocal cost
            cost += max(len(chunk), PIECE)
            body.extend(chunk)
            return len(body) <= limit and cost <= limit + PIECE

        with anyio.fail_after(timeout):
            async with self._stream(url, key=key, method=method, content=content) as response:
                if not await _read(response, take):
                    raise Unusable("broken", f"its answer is longer than {limit} bytes")
                return Answer(status=response.status_code, headers=response.headers, body=bytes(body))

    @asynccontextmanager
    async def _stream(
        self,
        url: str,
        *,
        key: str | None,
        accept: str = "application/json",
        method: str = "GET",
        content: bytes | None = None,
    ) -> AsyncIterator[httpx.Response]:
        headers = _HEADERS | {"Accept": accept}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        if content is not None:
            headers["Content-Type"] = "application/json"
        client = self._client_for(url)
        try:
            async with client.stream(method, url, headers=headers, content=content) as response:
                if 300 <= response.status_code < 400:
                    raise Unusable("redirect", f"status {response.status_code}")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise Unusable("broken", "its answer is compressed although that was not asked for")
                yield response
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            raise _unusable(error) from error

    def _client_for(self, url: str) -> httpx.AsyncClient:
        if not url.startswith("https:"):
            return self._plain
        if self._secure is None:
            self._secure = _client(verify=True)
        return self._secure


async def _read(response: httpx.Response, take: Callable[[bytes], bool]) -> bool:
    """Hand on a body piece by piece until ``take`` has enough; tell whether it was read to its end.

    It is left by cancelling the wait for the next piece, not by leaving the loop: the generators within
    httpx would stay suspended, and trio warns of each.
    """
    pieces = 0
    with anyio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            pieces += 1
            if not scope.cancel_called and not take(chunk):
                scope.cancel()
            if pieces % TURN == 0:
                await anyio.lowlevel.cancel_shielded_checkpoint()
    return not scope.cancel_called


def _client(*, verify: bool) -> httpx.AsyncClient:
    httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = SIP  # httpx has no way to hand it on
    return httpx.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        verify=verify,
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),
        limits=httpx.Limits(max_keepalive_connections=0),
        # A cookie is kept for a host, not for a port: one server's would be sent to all of this device.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )


def _unusable(error: Exception) -> Unusable:
    if isinstance(error, httpx.ConnectError):
        causes = causes_of(error)
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return Unusable("refused", "connection refused")
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            return Unusable("dns", "the name is not known")
        if any(isinstance(cause, ConnectionError) for cause in causes):
            return _hung_up()  # it was ended before its side had taken the connection
        # The error's own words are but that every address was tried; what the system says is behind it.
        told = next((cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror), "")
        return Unusable("unreachable", (told[:1].lower() + told[1:200]) or _words(error))
    if isinstance(error, httpx.ConnectTimeout):
        return Unusable("unreachable", f"no connection within {CONNECT_TIMEOUT:g} s")
    if isinstance(error, httpx.TimeoutException):
        return Unusable("silent", "no answer in time")
    if isinstance(error, httpx.LocalProtocolError | UnicodeError):
        # Its own words would quote the header, and with it the key.
        return Unusable("broken", "the request cannot be written as HTTP")
    if isinstance(error, httpx.NetworkError) or "disconnected" in str(error) or "peer closed" in str(error):
        return _hung_up()
    if isinstance(error, httpx.RemoteProtocolError | httpx.DecodingError):
        return Unusable("broken", "its answer is not HTTP")
    return Unusable("broken", _words(error))


def _hung_up() -> Unusable:
    return Unusable("broken", "it hung up before its answer was whole", cut=True)


def _words(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200]
