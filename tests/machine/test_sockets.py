"""Linux's tables of sockets: the rows of one port that listen, and whose they are."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hived.machine.sockets import listeners_at, listening_in, rows_at

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or sys.byteorder != "little", reason="tables of a little-endian Linux"
)

HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode      \n"
)
REST = "00000000:00000000 00:00000000 00000000  1000        0"
TABLE = (
    HEAD
    + f"   0: 0100007F:1F90 00000000:0000 0A {REST} 101 1 0000000000000000 100 0 0 10 0\n"
    + f"   1: 00000000:1F90 00000000:0000 0A {REST} 102 1 0000000000000000 100 0 0 10 0\n"
    # A connection to the port, one from it that waits for its end, and another port.
    + f"   2: 0100007F:9C40 0100007F:1F90 01 {REST} 103 1 0000000000000000 20 4 30 10 -1\n"
    + f"1234: 0100007F:1F90 0100007F:9C40 06 {REST} 0 3 0000000000000000\n"
    + f"   4: 0100007F:F901 00000000:0000 0A {REST} 104 1 0000000000000000 100 0 0 10 0\n"
)
TABLE_6 = (
    HEAD
    + f"   0: 00000000000000000000000001000000:1F90 {'0' * 32}:0000 0A {REST} 201 1 0 100 0 0 10 0\n"
    + f"   1: 0000000000000000FFFF00000100007F:1F90 {'0' * 32}:0000 0A {REST} 202 1 0 100 0 0 10 0\n"
    + f"   2: {'0' * 32}:1F90 {'0' * 32}:0000 0A {REST} 203 1 0 100 0 0 10 0\n"
)


@pytest.mark.parametrize(
    ("table", "port", "rows"),
    [
        (TABLE, 8080, [("127.0.0.1", 101), ("0.0.0.0", 102)]),
        (TABLE, 0xF901, [("127.0.0.1", 104)]),
        (TABLE, 40000, []),
        (TABLE, 0x1F9, []),
        (TABLE_6, 8080, [("::1", 201), ("127.0.0.1", 202), ("::", 203)]),
        (HEAD, 8080, []),
        ("", 8080, []),
        ("nonsense\n" * 3, 8080, []),
    ],
)
def test_only_what_listens_at_the_port_is_read(table: str, port: int, rows: list[tuple[str, int]]) -> None:
    assert list(listening_in(table.encode(), port)) == [(ipaddress.ip_address(a), 1000, n) for a, n in rows]


def test_whose_a_port_is_can_be_told_although_its_program_is_hidden(tmp_path: Path) -> None:
    root = f"{tmp_path}/"
    assert rows_at(8080, root) is None  # a system that does not tell
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/tcp").write_text(TABLE.replace(" 1000 ", " 997 "))
    (tmp_path / "proc/net/tcp6").write_text(TABLE_6)
    assert [row.uid for row in rows_at(8080, root) or ()] == [997, 997, 1000, 1000, 1000]
    assert rows_at(40000, root) == []  # the other end of a connection
    assert rows_at(1, root) == []


def test_a_socket_that_several_processes_share_is_found_with_each_of_them() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        own = (ipaddress.ip_address("127.0.0.1"), os.getpid())
        assert list(listeners_at(port)) == [own]
        command = [sys.executable, "-S", "-c", "import sys; print(flush=True); sys.stdin.read()"]
        with subprocess.Popen(
            command, pass_fds=[listener.fileno()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()  # it runs
            assert {pid for _, pid in listeners_at(port)} == {os.getpid(), child.pid}
            child.kill()
    assert list(listeners_at(port)) == []


def test_whose_socket_is_another_users_is_not_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        mine = ipaddress.ip_address("127.0.0.1")
        assert list(listeners_at(port)) == [(mine, os.getpid())]
        monkeypatch.setattr(os, "geteuid", lambda: 54_321)
        monkeypatch.setattr("hived.machine.sockets._owners", lambda inodes: pytest.fail("it was sought"))
        assert list(listeners_at(port)) == [(mine, None)]
