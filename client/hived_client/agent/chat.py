"""One turn with a model on a local server, without LiteLLM: its import alone would cost seconds.

No proxy and no redirect on the way, whatever the environment says: a call that is meant for this device
stays on it. Nothing is tried again, but for a kept connection that had gone stale. Giving up (cancellation,
a deadline) closes the connection, which stops the server's work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hived_client.agent.call_faults import broken_off, no_connection, said_no, silent
from hived_client.agent.dialects import Broken, Dialect, Reader, dialect_of
from hived_client.agent.words import Piece, Reply, Request
from hived_client.errors import CallFailed
from hived_client.resolution import Target
from hived_client.vocabulary.faults import Fault

if TYPE_CHECKING:
    import httpx

CONNECT = 5.0
"""Seconds for a connection."""
SILENCE = 600.0
"""Seconds without a byte after which a server is given up: a long prompt on a slow computer takes minutes."""
MOST_LINE = 8 * 1024 * 1024
"""Bytes of one line."""
MOST_BYTES = 256 * 1024 * 1024
"""Bytes of one answer."""
PIECES_A_TOKEN = 8
"""Pieces of an answer that may come for each token that it may have: a gateway sends letters."""
MOST_TOKENS = 131_072
"""Tokens of an answer where nobody knows how many it may have."""
MOST_ERROR = 64 * 1024
"""Bytes of an error that are read."""
MIND = 0.2
"""Seconds between two looks at what hived knows of the server while it works."""
PATIENCE = 10.0
"""Seconds of silence after which a server that hived finds hanging is given up: it may only be busy."""
QUEUED = 120.0
"""The same for llama.cpp, where a call that waits for its turn holds one of the few threads that answer."""
GLANCE = 10.0
"""Seconds for an answer to a small question, which a server at work has at once."""
EMPTY = 4096
"""Lines without a word that an answer may have beside its pieces: who speaks, the count, empty ones."""
ENDLESS = "its answer has no end"
WORDLESS = "it keeps the connection open and says nothing"

Told = Callable[[Piece], None]
Watch = Callable[[Target, float], Awaitable[Fault | None]]
"""Says why a server is to be given up that has been silent for so many seconds; ``None``: wait on."""


class Chat:
    """Speaks to servers; keeps its connections. ``async with Chat() as chat``, on asyncio or trio."""

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = watch
        self._clients: dict[str, httpx.AsyncClient] = {}
        self.requests = 0
        self._has_kept = False

    def __repr__(self) -> str:
        return f"<Chat {self.requests} requests>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        while self._clients:
            await self._clients.popitem()[1].aclose()

    async def complete(self, target: Target, request: Request, told: Told | None = None) -> Reply:
        """Have one turn; ``told`` hears every piece as it comes. Raises ``CallFailed``."""
        import anyio

        turn = _Turn(target, request, told or (lambda piece: None))
        given_up: Fault | None = None

        async def mind(scope: anyio.CancelScope) -> None:
            nonlocal given_up
            while self._watch is not None:
                await anyio.sleep(MIND)
                heard_at = turn.heard_at
                why = await self._watch(target, anyio.current_time() - heard_at)
                if why is not None and turn.heard_at == heard_at:  # nothing has come meanwhile
                    given_up = why
                    scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(mind, tasks.cancel_scope)
            try:
                await self._converse(turn)
            except Exception as failed:  # noqa: BLE001 - also what ``told`` raises
                # Out of the group by hand: a group would wrap it.
                turn.failure = failed
            tasks.cancel_scope.cancel()
        if turn.failure is not None:
            raise turn.failure
        if given_up is not None:
            raise CallFailed(given_up)
        return turn.reader.reply()

    async def glance(self, target: Target) -> Fault | None:
        """Say what is wrong with a server that does not answer even a small question; ``None``: it does.

        One that works on a long prompt answers, whatever it says, as long as a thread is left that can. One
        that is stopped, or hangs, takes the
        connection, since the system does, and no more.
        """
        import anyio
        import httpx

        url = target.api_base.rstrip("/") + dialect_of(target.model.partition("/")[0]).glance
        with anyio.move_on_after(GLANCE):
            try:
                async with self._client(url).stream("GET", url):
                    return None
            except httpx.ConnectError as error:
                return no_connection(target, error)
            except httpx.HTTPError:
                pass
        return silent(target)

    async def _converse(self, turn: _Turn) -> None:
        import anyio
        import httpx

        self.requests += 1
        target = turn.target
        url = target.api_base.rstrip("/") + turn.dialect.path
        body = turn.dialect.body(target.name, turn.request, target.extra)
        # As bytes: httpx writes text as ASCII only, and a key is whatever somebody has pasted.
        key = (target.api_key or "").encode("utf-8", "surrogatepass")
        headers = {b"Authorization": b"Bearer " + key} if key else {}
        turn.heard_at = anyio.current_time()
        try:
            async with self._client(url).stream("POST", url, json=body, headers=headers) as response:
                turn.heard_at = turn.spoke_at = anyio.current_time()
                turn.answered = self._has_kept = True
                if response.status_code != 200 or "content-encoding" in response.headers:
                    raise CallFailed(said_no(target, response.status_code, await _beginning(response)))
                await self._read(turn, response)
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.UnsupportedProtocol,
            httpx.InvalidURL,
        ) as error:
            raise CallFailed(no_connection(target, error)) from error
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            if turn.answered or turn.repeated or not self._has_kept:
                raise CallFailed(broken_off(target, error)) from error
            # The server closed a kept connection just as it was used again: it has read nothing.
            turn.repeated = True
            await self._converse(turn)
        except httpx.HTTPError as error:
            raise CallFailed(broken_off(target, error)) from error

    async def _read(self, turn: _Turn, response: httpx.Response) -> None:
        import anyio

        seen = bytearray()
        lines = _Lines()

        def take(chunk: bytes) -> bool:
            turn.heard_at = anyio.current_time()
            if len(seen) < MOST_ERROR:
                seen.extend(chunk)
            for line in lines.feed(chunk):
                turn.hear(line)
                if line and not line.startswith(b":"):  # a comment only keeps the connection open
                    turn.spoke_at = turn.heard_at
            if turn.heard_at - turn.spoke_at > SILENCE:
                raise Broken(WORDLESS)
            return True

        try:
            await _pour(response, take)
            turn.hear(lines.rest)
        except Broken as error:
            raise CallFailed(said_no(turn.target, 200, str(error).encode())) from error
        if not turn.reader.done:
            # Some servers put an error where the stream should be, with status 200.
            raise CallFailed(said_no(turn.target, 200, bytes(seen[:MOST_ERROR]), cut_off=True))

    def _client(self, url: str) -> httpx.AsyncClient:
        """Return the client for a URL's scheme; reading the system's certificates costs 20 ms."""
        import httpx

        scheme = url.partition(":")[0]
        if scheme not in self._clients:
            self._clients[scheme] = httpx.AsyncClient(
                trust_env=False,
                follow_redirects=False,
                verify=scheme == "https",
                timeout=httpx.Timeout(SILENCE, connect=CONNECT),
                headers={"Accept-Encoding": "identity", "User-Agent": "hived"},
            )
        return self._clients[scheme]


class _Turn:
    """One turn as it goes on."""

    def __init__(self, target: Target, request: Request, told: Told) -> None:
        self.target = target
        self.request = request
        self.told = told
        self.dialect: Dialect = dialect_of(target.model.partition("/")[0])
        self.reader: Reader = self.dialect.reader()
        self.heard_at = 0.0
        self.spoke_at = 0.0
        self.answered = False
        self.repeated = False
        self.failure: Exception | None = None
        self._measure = Measure(request, target.context)

    def hear(self, line: bytes) -> None:
        """Take in one line of the answer. Raises ``Broken``."""
        if self.reader.done:
            return
        piece = self.reader.read(line)
        self._measure.take(line, piece)
        if piece is not None:
            self.told(piece)


class Measure:
    """How much an answer may be: what goes on after that, goes on for ever.

    The arguments of a tool's call are no pieces, and a model may write them without an end as well.
    """

    def __init__(self, request: Request, context: int | None) -> None:
        self._pieces = PIECES_A_TOKEN * (request.max_tokens or context or MOST_TOKENS)
        self._wordless = self._pieces + EMPTY

    def take(self, line: bytes, piece: Piece | None) -> None:
        """Count a line and what was read in it. Raises ``Broken``."""
        if piece is not None:
            self._pieces -= 1
        elif line and not line.startswith(b":"):
            self._wordless -= 1
        if self._pieces < 0 or self._wordless < 0:
            raise Broken(ENDLESS)


class _Lines:
    """Cuts what comes into lines, and holds the beginning of the next one."""

    def __init__(self) -> None:
        self.rest = b""
        self._total = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that are whole now. Raises ``Broken`` for more than anybody says."""
        self._total += len(chunk)
        *whole, self.rest = (self.rest + chunk).split(b"\n")
        if len(self.rest) > MOST_LINE or self._total > MOST_BYTES:
            raise Broken(ENDLESS)
        return [line.rstrip(b"\r") for line in whole]


async def _beginning(response: httpx.Response) -> bytes:
    """Return the first bytes of an answer that is an error."""
    found = bytearray()

    def take(chunk: bytes) -> bool:
        found.extend(chunk)
        return len(found) < MOST_ERROR

    await _pour(response, take)
    return bytes(found[:MOST_ERROR])


async def _pour(response: httpx.Response, take: Callable[[bytes], bool]) -> None:
    """Hand on a body piece by piece until ``take`` has enough or raises.

    It is left by cancelling the wait for the next piece, not by leaving the loop: the generators within
    httpx would stay suspended, and trio warns of each.
    """
    import anyio

    problem: Exception | None = None
    with anyio.CancelScope() as scope:
        async for chunk in response.aiter_raw():
            if scope.cancel_called:
                continue
            try:
                if take(chunk):
                    continue
            except Exception as error:  # noqa: BLE001 - raised again below, out of the loop
                problem = error
            scope.cancel()
    if problem is not None:
        raise problem
