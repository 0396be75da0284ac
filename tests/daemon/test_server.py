"""The socket against peers that are broken, hostile, slow, many, or somebody else."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from hived.daemon.clock import Clock
from hived.daemon.instance import Instance
from hived.daemon.server import Method, Server, Talk
from hived.daemon.store import MOST_WAITING, Store
from hived.decisions.transitions import expect
from hived_client.doors.aio import AsyncClient
from hived_client.doors.frames import AFTER_HELLO, BEFORE_HELLO, FrameReader, frame
from hived_client.doors.paths import Places, places
from hived_client.doors.session import HELLO
from hived_client.doors.sync import Connection
from hived_client.doors.wire import Hello, Nothing, Progress, Refreshed
from hived_client.errors import HivedError, Unavailable
from hived_client.vocabulary.world import Change, Endpoint, World
from tests.daemon.running import DEADLINE, Running, configure, wait_prompt, wait_until

pack = msgspec.msgpack.encode


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One daemon for all peers of this module: it must outlive every one of them."""
    import tempfile

    from tests.conftest import environment

    with tempfile.TemporaryDirectory(prefix="hv-", dir="/tmp") as folder:
        variables = environment.__wrapped__(Path(folder))  # type: ignore[attr-defined]
        configure(variables)
        with Running(variables, backend=request.param) as running:
            yield running
            assert running.process.poll() is None, running.log[-4000:]
            assert "Traceback" not in running.log, running.log[-4000:]


def connected(where: Places, *said: bytes) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.settimeout(DEADLINE)
    peer.connect(where.socket)
    with contextlib.suppress(OSError):  # it may hang up in the middle
        peer.sendall(b"".join(said))
    return peer


def read_all(peer: socket.socket) -> list[Any]:
    """Read until the daemon hangs up, and return what it said."""
    reader = FrameReader(AFTER_HELLO)
    messages: list[Any] = []
    with contextlib.suppress(ConnectionError):
        while data := peer.recv(65_536):
            messages += [msgspec.msgpack.decode(body) for body in reader.feed(data)]
    return messages


def read_message(peer: socket.socket, count: int = 1) -> list[Any]:
    reader = FrameReader(AFTER_HELLO)
    messages: list[Any] = []
    while len(messages) < count:
        data = peer.recv(65_536)
        assert data, messages
        messages += [msgspec.msgpack.decode(body) for body in reader.feed(data)]
    return messages


def request(method: object, params: object = None, number: object = 1) -> bytes:
    return frame(pack({"id": number, "method": method, "params": {} if params is None else params}))


NOT_HELLO: dict[str, bytes] = {
    "garbage": b"GET / HTTP/1.1\r\nHost: hived\r\n\r\n",
    "zeros": b"\0" * 64,
    "empty_frame": frame(b""),
    "deep": frame(b"\x91" * 60_000),
    "deep_map": frame(b"\x81\xa1a" * 20_000),
    "a_request": request("world"),
    "not_a_map": frame(pack([1, 2, 3])),
    "a_string": frame(pack("hived")),
    "wrong_types": frame(pack({"hived": "1", "min": None, "max": []})),
    "not_utf8": frame(b"\x81\xa5hived\xa2\xff\xfe"),
    "half_a_character": frame(b"\x84\xa5hived\x01\xa3min\x01\xa3max\x01\xa7version\xa3\xed\xa0\x80"),
    "declares_four_billion": frame(b"\xdd\xff\xff\xff\xff"),
    "too_long": struct.pack(">I", BEFORE_HELLO + 1),
    "enormous": struct.pack(">I", 2**32 - 1) + b"x" * 1000,
    "from_the_future": frame(pack(Hello(hived=1, min=7, max=9))),
    "from_the_past": frame(pack(Hello(hived=1, min=0, max=0))),
}


@pytest.mark.parametrize("said", NOT_HELLO)
def test_what_is_not_a_hello_is_answered_once_and_closed(daemon: Running, said: str) -> None:
    with connected(daemon.where, NOT_HELLO[said]) as peer:
        told = read_all(peer)
    assert [message["fault"]["code"] for message in told] in (
        [["protocol.broken"], ["protocol.unsupported"]]["from_the" in said],
        [],  # closed with bytes unread: the kernel may throw away what was sent
    )
    assert daemon.client.greet().pid == daemon.pid


NOT_A_REQUEST: dict[str, bytes] = {
    "garbage": b"\xff" * 100,
    "empty_frame": frame(b""),
    "deep": frame(b"\x91" * 1_000_000),
    "deep_params": frame(b"\x83\xa2id\x01\xa6method\xa7resolve\xa6params" + b"\x91" * 1_000_000),
    "deep_known_key": frame(b"\x81\xa6params" + b"\x81\xa1a" * 300_000),
    "no_method": frame(pack({"id": 1})),
    "wrong_types": frame(pack({"id": "one", "method": 2})),
    "too_long": struct.pack(">I", AFTER_HELLO + 1),
    "not_utf8": frame(b"\x82\xa2id\x01\xa6method\xa2\xff\xfe"),
    "id_beyond_64_bits": frame(pack({"id": 1.5e300, "method": "world"})),
}


@pytest.mark.parametrize("said", NOT_A_REQUEST)
def test_what_is_not_a_request_ends_its_own_connection_and_no_other(daemon: Running, said: str) -> None:
    with connected(daemon.where) as other, connected(daemon.where, HELLO, NOT_A_REQUEST[said]) as peer:
        other.sendall(HELLO)
        assert read_message(other)[0]["pid"] == daemon.pid
        for message in read_all(peer)[1:]:
            assert message["fault"]["code"] in ("params.invalid", "protocol.broken")
        other.sendall(request("world"))
        assert read_message(other)[0]["result"]["daemon"]["pid"] == daemon.pid


NAN, INFINITE = float("nan"), float("inf")
QUESTION = {"model": "llamacpp/x"}
WRONG_PARAMS: list[tuple[str, object, str]] = [
    ("", {}, "method.unknown"),
    ("x" * 60_000, {}, "method.unknown"),
    ("__class__", {}, "method.unknown"),
    ("resolve", {}, "params.invalid"),
    ("resolve", [], "params.invalid"),
    ("resolve", None, "params.invalid"),
    ("resolve", {"question": {"model": 7}}, "params.invalid"),
    ("resolve", {"question": QUESTION | {"context": "many"}}, "params.invalid"),
    ("resolve", {"question": QUESTION | {"context": 2**64 - 1}}, "provider.nowhere"),
    ("resolve", {"question": QUESTION, "timeout": "soon"}, "params.invalid"),
    ("resolve", {"question": QUESTION, "timeout": NAN}, "provider.nowhere"),
    ("resolve", {"question": QUESTION, "fresh": True, "timeout": INFINITE}, "provider.nowhere"),
    ("resolve", {"question": {"model": "\x1b[2J" * 1000}}, "model.unnamed"),
    ("refresh", {"timeout": NAN}, "ok"),
    ("refresh", {"timeout": -INFINITE}, "ok"),
    ("refresh", {"endpoint": "nobody"}, "provider.unknown"),
    ("refresh", {"endpoint": 1}, "params.invalid"),
    ("start", {}, "params.invalid"),
    ("start", {"provider": "openai_compatible"}, "start.unsupported"),
    ("start", {"provider": "nobody"}, "start.unsupported"),
    ("start", {"provider": "llamacpp"}, "start.no_model"),
    ("start", {"provider": "llamacpp", "model": "/nowhere.gguf", "timeout": NAN}, "params.invalid"),
    ("start", {"provider": "llamacpp", "model": "/no\0where.gguf"}, "params.invalid"),
    ("start", {"provider": "llamacpp", "model": "/nowhere.gguf", "port": -1}, "params.invalid"),
    ("start", {"provider": "llamacpp", "model": "/nowhere.gguf", "port": 70_000}, "params.invalid"),
    ("start", {"provider": "llamacpp", "model": "/nowhere.gguf", "port": 2**63}, "params.invalid"),
    ("start", {"provider": "llamacpp", "model": "/nowhere.gguf", "context": -5}, "params.invalid"),
    ("start", {"provider": "llamacpp", "model": "/nowhere.gguf", "alias": "--tools"}, "params.invalid"),
    ("start", {"provider": "llamacpp", "model": "/nowhere.gguf", "alias": "a\x1b[2J"}, "params.invalid"),
    ("start", {"provider": "llamacpp", "model": "/nowhere.gguf", "arguments": [1]}, "params.invalid"),
    ("stop", {}, "params.invalid"),
    ("stop", {"name": "nobody", "grace": NAN}, "stop.nothing"),
    ("stop", {"name": "../../etc/passwd"}, "stop.nothing"),
]


def test_wrong_parameters_are_each_named_and_the_connection_goes_on(daemon: Running) -> None:
    with connected(daemon.where, HELLO) as peer:
        read_message(peer)
        found = []
        for method, params, _ in WRONG_PARAMS:
            peer.sendall(request(method, {} if params is None else params))
            message = read_message(peer)[0]
            body = message.get("result") or {}
            problem = message.get("fault") or (body.get("refusal") or {}).get("fault")
            found.append(problem["code"] if problem else "ok")
    wrong = [(asked, code) for asked, code in zip(WRONG_PARAMS, found, strict=True) if asked[2] != code]
    assert wrong == []


def test_requests_that_come_at_once_are_answered_in_turn_also_byte_by_byte(daemon: Running) -> None:
    said = HELLO + b"".join(request("statistics", number=number) for number in range(1, 4))
    with connected(daemon.where) as peer:
        for at in range(len(said)):
            peer.sendall(said[at : at + 1])
        assert [message.get("id") for message in read_message(peer, 4)] == [None, 1, 2, 3]


def test_who_leaves_with_half_a_frame_or_a_question_is_forgotten(daemon: Running) -> None:
    for said in (b"", b"\0", HELLO[:-1], HELLO, HELLO + request("world")[:-1], HELLO + request("world")):
        for _ in range(5):
            connected(daemon.where, said).close()
    for _ in range(5):
        connected(daemon.where, HELLO + request("subscribe")).close()
    wait_until(lambda: daemon.client.statistics()["server"]["connections"] == 1)
    wait_until(lambda: daemon.client.statistics()["store"]["subscribers"] == 0)


@pytest.mark.stress
def test_who_says_nothing_or_dribbles_is_closed_after_two_seconds(daemon: Running) -> None:
    began = time.monotonic()
    with connected(daemon.where) as silent, connected(daemon.where) as slow:
        slow.settimeout(0.1)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < DEADLINE:
                slow.sendall(HELLO[sent : sent + 1])
                sent = min(sent + 1, len(HELLO) - 2)
                with contextlib.suppress(TimeoutError):
                    if not slow.recv(1):
                        break
        assert 1.5 < time.monotonic() - began < DEADLINE
        assert silent.recv(1) == b""


@pytest.mark.stress
def test_who_never_reads_is_let_go_and_keeps_nobody_waiting(daemon: Running) -> None:
    with connected(daemon.where, HELLO) as deaf:
        deaf.settimeout(0.5)
        with contextlib.suppress(OSError):
            for number in range(20_000):
                deaf.sendall(request("world", number=number))
        wait_prompt(daemon.client.greet, 1.0)
        wait_until(lambda: daemon.client.statistics()["server"]["connections"] <= 1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_is_refused_before_its_first_frame(daemon: Running) -> None:
    folder = Path(daemon.where.folder)
    opened = [Path(daemon.environment["HOME"]), folder.parent, folder]
    modes = [path.stat().st_mode for path in opened]
    socket_mode = Path(daemon.where.socket).stat().st_mode
    before = daemon.client.statistics()["server"]["refused"]
    child = -1
    try:
        for path in opened:
            path.chmod(0o755)
        Path(daemon.where.socket).chmod(0o666)
        child = os.fork()
        if child == 0:
            code = 9
            try:
                os.setgid(65_534)
                os.setuid(65_534)
                peer = connected(daemon.where, HELLO, request("world"))
                code = 0 if read_all(peer) == [] else 1
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        for path, mode in zip(opened, modes, strict=True):
            path.chmod(mode & 0o777)
        Path(daemon.where.socket).chmod(socket_mode & 0o777)
    assert daemon.client.statistics()["server"]["refused"] == before + 1


# In this process, on both backends: what needs the World moved or a method of its own.


class Serving:
    def __init__(self, store: Store, server: Server, where: Places) -> None:
        self.store, self.server, self.where = store, server, where
        self.client = AsyncClient(where)


@asynccontextmanager
async def serving(where: Places, methods: dict[str, Method] | None = None) -> AsyncIterator[Serving]:
    instance = Instance(where)
    instance.acquire()
    store = Store(World(generation=1), Clock())
    server = Server(store, methods or {}, daemon_id="0" * 32, boot="")
    try:
        async with anyio.create_task_group() as tasks:
            listener = instance.bind()
            await tasks.start(server.run, listener)
            yield Serving(store, server, where)
            tasks.cancel_scope.cancel()
    finally:
        instance.release()


async def until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110 - what is waited for has no event
        await anyio.sleep(0.001)


def change_world(store: Store, count: int) -> None:
    """Make worlds of which each differs from the last by one endpoint."""
    for number in range(count):
        url = f"http://127.0.0.1:{1 + number % 2}"
        endpoint = Endpoint(name="a", provider="llamacpp", url=url, source="configuration")
        store.update(lambda world, endpoint=endpoint: expect(world, (endpoint,)))  # type: ignore[misc]


pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.anyio
async def test_a_subscriber_gets_every_generation_once_and_in_order(where: Places) -> None:
    async with serving(where) as running:
        generations: list[int] = []

        async def listen(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            stream = await anyio.connect_unix(where.socket)
            async with stream:
                await stream.send(HELLO + request("subscribe"))
                reader = FrameReader(AFTER_HELLO)
                told = False
                while True:
                    for body in reader.feed(await stream.receive()):
                        message = msgspec.msgpack.decode(body)
                        if "result" in message and not told:
                            told = True
                            generations.append(message["result"]["generation"])
                            task_status.started()
                        elif "event" in message:
                            generations.append(message["generation"])
                    if generations[-1:] == [201]:
                        return

        with anyio.fail_after(60.0):
            async with anyio.create_task_group() as tasks:
                await tasks.start(listen)
                for _ in range(4):
                    change_world(running.store, 50)
                    await anyio.lowlevel.checkpoint()
                    while running.store.world.generation and len(generations) < 1:
                        await anyio.lowlevel.checkpoint()
                    await anyio.wait_all_tasks_blocked()
        assert generations[0] == 1
        assert sorted(set(generations)) == list(range(1, 202))
        assert generations == sorted(generations)


@pytest.mark.anyio
async def test_a_subscriber_that_does_not_keep_up_is_told_and_closed(where: Places) -> None:
    async with serving(where) as running:
        told: list[str] = []
        changes: list[Change] = []

        async def listen() -> None:
            try:
                async for change in running.client.events():
                    changes.append(change)
            except Unavailable as error:
                told.append(error.code)

        with anyio.fail_after(60.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
                await until(lambda: running.store.statistics()["subscribers"])
                change_world(running.store, MOST_WAITING + 100)
        assert told == ["lagged"]
        assert running.store.statistics()["subscribers"] == 0


@pytest.mark.anyio
async def test_a_subscriber_that_hangs_up_or_never_reads_takes_nobody_with_it(
    where: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hived.daemon.peer.SEND_TIMEOUT", 0.1)
    async with serving(where) as running:
        for leaves in (True, False):
            stream = await anyio.connect_unix(where.socket)
            await stream.send(HELLO + request("subscribe"))
            await until(lambda: running.store.statistics()["subscribers"])
            if leaves:
                await stream.aclose()
            with anyio.fail_after(60.0):
                while running.store.statistics()["subscribers"] or running.server.statistics()["connections"]:
                    change_world(running.store, 100)
                    await anyio.sleep(0.001)
            await stream.aclose()
        with connected(where):
            with anyio.fail_after(60.0):
                await until(lambda: running.server.statistics()["connections"])


@pytest.mark.anyio
async def test_an_answer_that_comes_while_a_slow_peer_takes_the_progress_follows_it_whole(
    where: Places,
) -> None:
    answered = anyio.Event()

    async def start(params: bytes, talk: Talk) -> Refreshed:
        talk.tell(Progress(stage="loading", message="x" * 2_000_000))  # more than a socket has room for
        await anyio.wait_all_tasks_blocked()
        answered.set()
        return Refreshed(generation=7)

    async with serving(where, {"start": start}), await anyio.connect_unix(where.socket) as stream:
        await stream.send(HELLO + request("start"))
        await answered.wait()
        reader = FrameReader(AFTER_HELLO)
        messages: list[Any] = []
        with anyio.fail_after(10.0):
            while len(messages) < 3:
                for body in reader.feed(await stream.receive()):
                    messages.append(msgspec.msgpack.decode(body))
    assert messages[1]["event"] == "progress"
    assert messages[2]["result"] == {"generation": 7}


@pytest.mark.anyio
async def test_draining_ends_subscriptions_with_a_word_answers_what_is_asked_and_takes_nobody_new(
    where: Places,
) -> None:
    begun, release = anyio.Event(), anyio.Event()

    async def slow(params: bytes, talk: Talk) -> Refreshed:
        begun.set()
        await release.wait()
        return Refreshed(generation=77)

    async with serving(where, {"refresh": slow}) as running:
        told: list[object] = []

        async def listen() -> None:
            try:
                async for _ in running.client.events():
                    pass
            except Unavailable as error:
                told.append(error.code)

        async def ask() -> None:
            told.append(await running.client.refresh(timeout=DEADLINE))

        with anyio.fail_after(60.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
                tasks.start_soon(ask)
                await begun.wait()
                await until(lambda: running.store.statistics()["subscribers"])
                async with await anyio.connect_unix(where.socket) as idle:
                    await idle.send(HELLO)
                    await idle.receive()
                    tasks.start_soon(running.server.drain)
                    with pytest.raises(anyio.EndOfStream):
                        await idle.receive()
                with pytest.raises(Unavailable) as refused:
                    await running.client.refresh(timeout=1.0)
                assert refused.value.code in ("daemon.not_running", "protocol.broken")
                release.set()
        assert sorted(map(str, told)) == ["77", "draining"]


@pytest.mark.anyio
async def test_a_reply_that_is_too_long_or_a_method_that_crashes_costs_only_its_answer(where: Places) -> None:
    async def huge(params: bytes, talk: Talk) -> dict[str, object]:
        return {"x": "y" * (AFTER_HELLO + 1)}

    async def crash(params: bytes, talk: Talk) -> dict[str, object]:
        raise ZeroDivisionError

    async def strange(params: bytes, talk: Talk) -> dict[str, object]:
        return {"x": object()}

    async def half(params: bytes, talk: Talk) -> dict[str, object]:
        return {"x": "\ud800"}

    methods: dict[str, Method] = {"statistics": huge, "reload": crash, "retire": strange, "stop": half}
    async with serving(where, methods) as running:
        with anyio.fail_after(60.0):
            for ask in (
                running.client.statistics,
                running.client.reload,
                running.client.retire,
                lambda: running.client.stop("x"),
            ):
                with pytest.raises(HivedError) as caught:
                    await ask()
                assert caught.value.code == "internal"


@pytest.mark.anyio
async def test_who_waits_for_a_start_and_leaves_takes_nobody_with_it(where: Places) -> None:
    async def begin(params: bytes, talk: Talk) -> dict[str, object]:
        while True:
            talk.tell(Progress(stage="x", message="y" * 50_000))
            await anyio.sleep(0.001)

    async with serving(where, {"start": begin}) as running:
        with anyio.fail_after(60.0):
            for _ in range(5):
                stream = await anyio.connect_unix(where.socket)
                await stream.send(HELLO + frame(pack({"id": 1, "method": "start", "params": {}})))
                await stream.receive()
                await stream.aclose()
            await until(lambda: not running.server.statistics()["connections"])


def test_places_of_a_module_fixture_are_those_of_its_environment(daemon: Running) -> None:
    assert places(daemon.environment) == daemon.where
    with Connection(daemon.where, 1.0) as connection:
        assert connection.call("statistics", Nothing(), dict[str, Any], 2.0)["server"]["connections"] >= 1
