"""Where the files are: the same for every process of a user, and never where others may write."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hived_client.doors.paths import (
    SUN_PATH,
    Places,
    candidates,
    check_folder,
    denied,
    ensure_folder,
    places,
    short_hash,
    socket_path,
    unwritable,
)
from hived_client.errors import Unavailable


def private(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True)
    return path


def test_the_given_runtime_folder_comes_first(home: Path) -> None:
    xdg = private(home / "xdg")
    assert (
        places({"HOME": "/h", "HIVED_RUNTIME_DIR": "/given/", "XDG_RUNTIME_DIR": str(xdg)}).runtime
        == "/given"
    )


def test_then_comes_the_runtime_folder_of_the_session(home: Path) -> None:
    xdg = private(home / "xdg")
    assert places({"HOME": "/h", "XDG_RUNTIME_DIR": f"{xdg}/"}).runtime == f"{xdg}/hived"


@pytest.mark.parametrize("given", ["", "relative", "/does/not/exist"])
def test_a_session_folder_that_is_none_is_passed_over(given: str, home: Path) -> None:
    found = places({"HOME": str(home), "XDG_RUNTIME_DIR": given}).runtime
    assert found in (f"{home}/.hive/run", f"/run/user/{os.getuid()}/hived")


def test_a_session_folder_that_is_a_link_is_passed_over(home: Path) -> None:
    (home / "link").symlink_to(private(home / "xdg"))
    assert not places({"HOME": str(home), "XDG_RUNTIME_DIR": f"{home}/link"}).runtime.startswith(
        f"{home}/link"
    )


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_session_folder_of_somebody_else_is_passed_over(home: Path) -> None:
    os.chown(private(home / "xdg"), 12345, 12345)
    assert "xdg" not in places({"HOME": str(home), "XDG_RUNTIME_DIR": f"{home}/xdg"}).runtime


@pytest.mark.parametrize(
    ("given", "state"),
    [("", "/h/.local/state/hived"), ("relative", "/h/.local/state/hived"), ("/s/", "/s/hived")],
)
def test_the_state_folder_is_the_users(given: str, state: str) -> None:
    assert places({"HOME": "/h", "XDG_STATE_HOME": given}).state == state


@pytest.mark.parametrize("home", ["/h/.hive", "/h/.hive/", "/h/x/../.hive"])
def test_the_usual_home_written_otherwise_is_the_usual_home(home: str) -> None:
    assert places({"HOME": "/h", "HIVE_HOME": home}).state == "/h/.local/state/hived"


def test_another_home_has_a_daemon_of_its_own(home: Path) -> None:
    xdg = private(home / "xdg")
    env = {"HOME": "/h", "HIVE_HOME": "/other", "XDG_RUNTIME_DIR": str(xdg)}
    found = places(env)
    name = f"hived-{short_hash('/other')}"
    assert (found.home, found.runtime, found.state) == ("/other", f"{xdg}/{name}", f"/h/.local/state/{name}")
    assert found.configuration == "/other/configuration.json"
    assert found.breadcrumb == "/other/run/hived.json"


def test_no_path_depends_on_tmpdir(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"HOME": str(home), "HIVED_RUNTIME_DIR": "/r" * 80}
    before = places(env)
    monkeypatch.setenv("TMPDIR", str(home))
    assert places(env | {"TMPDIR": str(home), "TMP": str(home), "TEMP": str(home)}) == before


def test_every_file_is_in_its_folder(where: Places) -> None:
    for path in (where.snapshot, where.beat, where.lock, where.start_lock, where.socket):
        assert path.startswith(f"{where.runtime}/v1/")
    for path in (where.last_known, where.started, where.logs):
        assert path.startswith(f"{where.state}/")


@pytest.mark.parametrize("length", [10, 88, 89, 90, 120, 500])
def test_a_socket_path_is_never_too_long_to_bind(length: int) -> None:
    runtime = "/" + "r" * (length - 1)
    path = socket_path(runtime)
    assert len(os.fsencode(path)) <= SUN_PATH
    assert path.startswith(
        runtime if length + len("/v1/hived.sock") <= SUN_PATH else f"/tmp/hived-{os.getuid()}-"
    )
    assert path == socket_path(runtime)


def test_a_long_path_is_measured_in_bytes() -> None:
    runtime = "/" + "é" * 50
    assert socket_path(runtime).startswith("/tmp/")
    assert socket_path(runtime) != socket_path(runtime + "x")


def test_a_folder_of_ours_is_made_and_closed(home: Path) -> None:
    path = home / "a" / "b"
    ensure_folder(str(path))
    ensure_folder(str(path))
    assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o755)
    ensure_folder(str(path))
    assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(home: Path, mode: int) -> None:
    path = private(home / "open")
    path.chmod(mode)
    for check in (check_folder, ensure_folder):
        with pytest.raises(Unavailable) as error:
            check(str(path))
        assert error.value.code == "runtime.unsafe"


def test_what_is_not_a_folder_is_refused(home: Path) -> None:
    (home / "file").write_bytes(b"")
    (home / "link").symlink_to(private(home / "real"))
    (home / "dangling").symlink_to(home / "nothing")
    for name in ("file", "link", "dangling"):
        for check in (check_folder, ensure_folder):
            with pytest.raises(Unavailable) as error:
                check(str(home / name))
            assert error.value.code == "runtime.unsafe"
    with pytest.raises(Unavailable):
        check_folder(str(home / "file" / "below"))
    with pytest.raises(Unavailable) as error:
        ensure_folder(str(home / "file" / "below"))
    assert error.value.code == "runtime.unwritable"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(home: Path) -> None:
    path = private(home / "theirs")
    os.chown(path, 12345, 12345)
    with pytest.raises(Unavailable) as error:
        check_folder(str(path))
    assert error.value.code == "runtime.unsafe"


CRUMBS = [
    (b'{"runtime": "/elsewhere"}', "/elsewhere"),
    (b'{"runtime": "/elsewhere", "pid": 1, "new": {"deep": [1, true]}, "ok": true}', "/elsewhere"),
    (b'{"runtime": "relative"}', None),
    (b'{"runtime": 5}', None),
    (b'{"runtime": "/a\\u0000b"}', None),
    (b'{"pid": 1}', None),
    (b"[]", None),
    (b"", None),
    (b'{"runtime": "/elsew', None),
    (b"\xff\xfe", None),
    (b'{"x":' + b"[" * 60_000, None),
]


@pytest.mark.parametrize(("crumb", "runtime"), CRUMBS, ids=range(len(CRUMBS)))
def test_the_breadcrumb_names_another_runtime_folder(home: Path, crumb: bytes, runtime: str | None) -> None:
    environment = {"HOME": str(home), "XDG_RUNTIME_DIR": str(private(home / "xdg"))}
    first = places(environment)
    Path(first.breadcrumb).parent.mkdir(parents=True)
    Path(first.breadcrumb).write_bytes(crumb)
    found = candidates(environment)
    assert found[0] == first
    assert [each.runtime for each in found[1:]] == ([] if runtime is None else [runtime])
    assert all(each.socket == socket_path(each.runtime) for each in found)


def test_a_given_runtime_folder_is_the_only_candidate(where: Places, environment: dict[str, str]) -> None:
    Path(where.breadcrumb).parent.mkdir(parents=True)
    Path(where.breadcrumb).write_bytes(b'{"runtime": "/elsewhere"}')
    assert candidates(environment) == [where]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_fault_of_its_own(number: int) -> None:
    found = unwritable("/a b", OSError(number, os.strerror(number)))
    assert (found.code, found.hint) == ("disk.full", "df -h '/a b'")


def test_what_root_left_in_ones_own_home_is_to_be_taken_over(home: Path) -> None:
    error = PermissionError(errno.EACCES, "Permission denied")
    left = private(home / "left")
    private(left / "run")
    mine = denied(f"{left}/run/beat", error)
    assert (mine.code, mine.hint) == ("runtime.unsafe", f"ls -ld {left}/run")
    if os.getuid() == 0:  # only root can give a folder away
        for path in (left, left / "run"):
            os.chown(path, 12345, 12345)
        assert denied(f"{left}/run/beat", error).hint == f"sudo chown -R 0 {left}"


@pytest.mark.parametrize("variable", ["HIVE_HOME", "HIVED_RUNTIME_DIR", "XDG_STATE_HOME"])
def test_a_path_that_is_no_text_is_refused(home: Path, variable: str) -> None:
    with pytest.raises(Unavailable) as error:
        places({"HOME": str(home), variable: f"{home}/h\udcff"})
    assert error.value.code == "runtime.unsafe"
    assert error.value.hint == f"export {variable}=/path/in/UTF-8"
    assert error.value.message.encode()


def test_a_home_that_is_no_path_is_said_as_that() -> None:
    with pytest.raises(Unavailable) as error:
        places({"HOME": "relative"})
    assert error.value.message == "relative cannot be trusted: HOME is no absolute path."
    assert error.value.hint == "export HOME=/home/USER"


def test_what_else_cannot_be_written_says_why() -> None:
    found = unwritable("/a", OSError(errno.EROFS, "Read-only file system"))
    assert found.code == "runtime.unwritable"
    assert found.message == "/a cannot be written: Read-only file system."
    assert found.hint == "ls -ld /"  # there is no such folder


def test_a_folder_that_is_open_to_others_is_closed_by_the_hint(where: Places) -> None:
    os.makedirs(where.folder, 0o700)
    os.chmod(where.folder, 0o722)
    with pytest.raises(Unavailable) as caught:
        check_folder(where.folder)
    assert caught.value.hint == f"chmod go-w {where.folder}"
