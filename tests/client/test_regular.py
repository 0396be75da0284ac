"""Opening files that somebody else wrote."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hived_client.doors.regular import NotAFile, open_regular


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"what it holds")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"what it holds"
        assert not os.get_inheritable(file.fileno())


def put_folder(path: Path) -> None:
    path.mkdir()


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))


def put_link(path: Path) -> None:
    path.symlink_to("/dev/null")


@pytest.mark.parametrize("put", [put_folder, put_pipe, put_socket, put_link])
def test_what_is_no_file_is_not_waited_for_and_keeps_no_descriptor(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    put(tmp_path / "x")
    before = os.listdir("/dev/fd")
    with pytest.raises(OSError) as error:
        open_regular(tmp_path / "x")
    assert isinstance(error.value, NotAFile) or put is put_socket  # which the system refuses to open
    assert len(os.listdir("/dev/fd")) == len(before)


def test_a_link_is_followed_unless_it_may_not_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    open_regular(tmp_path / "link").close()
    with pytest.raises(OSError, match=r"symbolic|links"):
        open_regular(tmp_path / "link", follow=False)
