from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import msgspec
import pytest

from hived.machine import processes
from hived.machine.processes import (
    Identity,
    end_session,
    find_listener,
    identify,
    is_alive,
    is_stopped,
    let_go,
    reap,
    spawn_detached,
    stop,
    wait_exit,
)
from tests.servers.llamacpp import child_environment

SLEEP = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " print('ready', flush=True); time.sleep(600)"
)


@contextlib.contextmanager
def child(code: str = SLEEP, *, group: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE, start_new_session=group
    ) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


def eventually(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


def known(process: subprocess.Popen[bytes]) -> Identity:
    identity = identify(process.pid)
    assert identity is not None
    return identity


@pytest.fixture(params=["handle", "polling"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with the kernel's handle, and as on a system that has none."""
    if request.param == "polling":
        monkeypatch.setattr(processes, "_open_handle", lambda pid: None)
    return str(request.param)


def test_we_are_alive_and_always_the_same() -> None:
    us = identify(os.getpid())
    assert us is not None
    assert us == identify(os.getpid())
    assert is_alive(us)
    assert not is_stopped(os.getpid())


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
def test_a_number_that_nobody_carries_is_nobody(pid: int) -> None:
    assert identify(pid) is None
    assert not is_stopped(pid)


@pytest.mark.parametrize("change", [{"started": 1.0}, {"boot": "another"}, {"pid": 2**22 + 1}])
def test_the_same_number_with_another_start_or_boot_is_another_process(change: dict[str, object]) -> None:
    us = identify(os.getpid())
    assert us is not None
    assert not is_alive(msgspec.structs.replace(us, **change))


def test_an_identity_survives_being_written_down() -> None:
    us = identify(os.getpid())
    assert msgspec.json.decode(msgspec.json.encode(us), type=Identity) == us


def test_a_written_identity_without_a_number_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"pid": 0, "started": 1.0, "boot": ""}', type=Identity)


def test_a_zombie_is_dead() -> None:
    with child("pass") as process:
        identity = Identity(pid=process.pid, started=0.0, boot="")
        eventually(lambda: identify(process.pid) is None)
        assert not is_alive(identity)


def test_a_name_with_brackets_and_spaces_does_not_confuse_the_reading(tmp_path: Path) -> None:
    odd = tmp_path / "a) R (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "60"]) as process:
        try:
            assert is_alive(known(process))
        finally:
            process.kill()


def test_a_stopped_process_lives_and_is_stopped() -> None:
    with child() as process:
        process.send_signal(signal.SIGSTOP)
        eventually(lambda: is_stopped(process.pid))
        assert is_alive(known(process))
        process.send_signal(signal.SIGCONT)
        eventually(lambda: not is_stopped(process.pid))


@contextlib.contextmanager
def listening(host: str, family: socket.AddressFamily = socket.AF_INET) -> Iterator[int]:
    with socket.socket(family) as one:
        one.bind((host, 0))
        one.listen()
        yield one.getsockname()[1]


@pytest.mark.parametrize(
    ("host", "asked", "found"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "203.0.113.9", False),  # another machine's address, whatever listens here
        ("0.0.0.0", "gpu-box.example", False),
    ],
)
def test_a_listener_is_found_by_what_it_listens_on(host: str, asked: str, found: bool) -> None:
    with listening(host) as port:
        assert find_listener(asked, port) == (os.getpid() if found else None)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("asked", ["127.0.0.1", "::1", "[::1]", "localhost"])
def test_a_listener_on_all_addresses_of_both_families_is_found(asked: str) -> None:
    with listening("::", socket.AF_INET6) as port:
        assert find_listener(asked, port) == os.getpid()


def test_a_port_without_a_listener_has_none() -> None:
    with listening("127.0.0.1") as port:
        pass
    assert find_listener("127.0.0.1", port) is None


@pytest.mark.anyio
async def test_the_end_of_a_process_is_waited_for(way: str) -> None:
    with child() as process:
        with anyio.fail_after(60.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: wait_exit(known(process), poll=0.01))
                await anyio.lowlevel.checkpoint()
                process.kill()


@pytest.mark.anyio
async def test_a_process_that_is_gone_is_not_waited_for(way: str) -> None:
    with child() as process:
        identity = known(process)
        process.kill()
    with anyio.fail_after(60.0):
        await wait_exit(identity)
    with anyio.fail_after(60.0):  # the number is in use, and by another
        await wait_exit(Identity(pid=os.getpid(), started=1.0, boot=identity.boot))


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
async def test_a_cancelled_wait_leaves_no_descriptor() -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    with child() as process:
        identity = known(process)
        before = count()
        for _ in range(20):
            with anyio.move_on_after(0.001):
                await wait_exit(identity)
        assert count() == before
        assert is_alive(identity)


@pytest.mark.anyio
async def test_two_may_wait_for_the_same_process(way: str) -> None:
    with child() as process:
        identity = known(process)
        with anyio.fail_after(60.0):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: wait_exit(identity, poll=0.01))
                tasks.start_soon(lambda: wait_exit(identity, poll=0.01))
                await anyio.lowlevel.checkpoint()
                process.kill()


@pytest.mark.anyio
async def test_a_process_ends_when_it_is_asked_to(way: str) -> None:
    with child() as process:
        assert await stop(known(process)) == "terminated"
        assert process.wait(60.0) == -signal.SIGTERM


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="the group is listed from /proc")
async def test_a_process_that_will_not_end_is_killed_with_its_workers(way: str) -> None:
    code = "import os\nif os.fork() == 0: os.closerange(0, 3)\n" + STUBBORN
    with child(code, group=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert await stop(known(process), grace=0.05) == "killed"
        assert process.wait(60.0) == -signal.SIGKILL
        eventually(lambda: not _group_lives(process.pid))


def _group_lives(group: int) -> bool:
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            if os.getpgid(int(name)) == group and identify(int(name)):
                return True
    return False


@pytest.mark.anyio
async def test_a_worker_of_our_own_group_is_killed_alone(way: str) -> None:
    with child(STUBBORN) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert await stop(known(process), grace=0.05) == "killed"
        assert process.wait(60.0) == -signal.SIGKILL


@pytest.mark.anyio
async def test_a_stopped_process_ends_when_it_is_asked_to(way: str) -> None:
    with child() as process:
        process.send_signal(signal.SIGSTOP)
        eventually(lambda: is_stopped(process.pid))
        with anyio.fail_after(60.0):
            assert await stop(known(process)) == "terminated"


@pytest.mark.anyio
async def test_what_is_gone_or_another_is_never_signalled(way: str) -> None:
    with child() as process:
        real = known(process)
        assert await stop(msgspec.structs.replace(real, started=1.0)) == "gone"
        assert await stop(msgspec.structs.replace(real, boot="another")) == "gone"
        assert is_alive(real)
        process.kill()
    assert await stop(real) == "gone"


@pytest.mark.anyio
async def test_a_detached_program_has_its_own_session_and_a_private_log(tmp_path: Path) -> None:
    log = tmp_path / "a" / "b" / "server.log"
    old = os.umask(0)
    try:
        code = "import os, sys; print(os.getsid(0) == os.getpid(), os.getcwd(), dict(os.environ).get('X'))"
        code += "; print(oct(os.umask(0)), sys.stdin.read() == '', file=sys.stderr)"
        process = spawn_detached([sys.executable, "-c", code], log=log, environment={"X": "1"})
    finally:
        os.umask(old)
    with anyio.fail_after(60.0):
        assert await reap(process) == 0
    assert sorted(log.read_text().splitlines()) == ["0o77 True", "True / 1"]
    assert [stat.S_IMODE(p.stat().st_mode) for p in (log, log.parent, log.parent.parent)] == [
        0o600,
        0o700,
        0o700,
    ]


@pytest.mark.anyio
async def test_a_log_is_appended_to(tmp_path: Path) -> None:
    for word in ("one", "two"):
        process = spawn_detached(["/bin/echo", word], log=tmp_path / "log", environment={})
        with anyio.fail_after(60.0):
            assert await reap(process) == 0
            assert await reap(process) == 0
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_a_program_that_is_not_there_is_an_error_and_leaves_no_descriptor(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        spawn_detached(["/nonexistent/llama-server"], log=tmp_path / "log", environment={})


def test_a_log_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        spawn_detached(["/bin/echo"], log=tmp_path / "log", environment={})


def test_a_child_that_was_let_go_lives_on_without_a_warning(tmp_path: Path) -> None:
    process = spawn_detached(["/bin/sleep", "60"], log=tmp_path / "log", environment={})
    pid = process.pid
    try:
        let_go(process)
        del process  # a ResourceWarning here would fail the test
        assert identify(pid) is not None
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


DAEMON = """
import os, pathlib, signal, sys
from hived.machine.processes import spawn_detached
child = spawn_detached(["/bin/sleep", "60"], log=pathlib.Path(sys.argv[1]), environment={})
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.anyio
async def test_a_detached_program_outlives_a_daemon_that_is_killed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DAEMON, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        env=child_environment(),
        check=False,
    )
    identity = identify(int(done.stdout))
    assert done.returncode == -signal.SIGKILL
    assert identity is not None
    assert await stop(identity) == "terminated"


LEAVES = """
import os, subprocess, sys, time
left = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"], process_group=0)
print(left.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.anyio
async def test_what_a_killed_server_left_in_its_session_is_ended_and_nothing_else(tmp_path: Path) -> None:
    with child() as bystander, child(LEAVES, group=True) as server:
        assert server.stdout is not None
        identity = known(server)
        left = int(server.stdout.readline())
        assert await end_session(identity) == 0  # it lives: there is nothing that it left
        server.kill()
        server.wait()
        assert os.path.exists(f"/proc/{left}/exe")
        assert await end_session(identity) == 1
        assert not os.path.exists(f"/proc/{left}/exe")
        assert bystander.poll() is None
        assert await end_session(msgspec.structs.replace(identity, boot="another")) == 0
