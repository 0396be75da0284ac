"""Another user, with a Python of their own: what can they see and do?

``python -m tests.stress.stranger UID HOME``, run by root, which becomes that user once all is imported (the
checkout may be closed to them), and prints what each try came to, as JSON.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from functools import partial

from hived_client.doors.paths import Places, places
from hived_client.doors.session import HELLO
from hived_client.doors.sync import Client
from hived_client.errors import HivedError

FILES = ("snapshot", "beat", "lock", "last_known", "configuration")


def tries(where: Places) -> dict[str, Callable[[], str]]:
    """Return what somebody might try who knows every path."""
    files = {
        name: getattr(where, name) for name in ("snapshot", "beat", "lock", "last_known", "configuration")
    }
    folders = {name: getattr(where, name) for name in ("runtime", "folder", "state", "logs", "started")}
    return {
        **{f"read {name}": partial(read, path) for name, path in files.items()},
        **{f"list {name}": partial(count, path) for name, path in folders.items()},
        **{f"write to {name}": partial(write, f"{path}/x") for name, path in folders.items()},
        "read the log": lambda: read(f"{where.logs}/hived.log"),
        "greet": lambda: greet(where.socket),
        "ask by the library": lambda: Client(where).resolve("llamacpp/m", timeout=1.0).api_base,
        "its World": lambda: f"{len(Client(where).world().world.endpoints)} endpoints",
    }


def read(path: str) -> str:
    with open(path, "rb") as file:
        return f"read {len(file.read())} bytes"


def count(path: str) -> str:
    return f"{len(os.listdir(path))} names"


def write(path: str) -> str:
    with open(path, "wb") as file:
        file.write(b"x")
    return "written"


def greet(path: str) -> str:
    """Say hello and ask for the World; return what came back before the end."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(60.0)
        peer.connect(path)
        try:
            peer.sendall(HELLO)
            return f"answered {len(peer.recv(65_536))} bytes"
        except ConnectionError:
            return "answered 0 bytes"


def outcome(act: Callable[[], str]) -> str:
    try:
        return act()
    except HivedError as error:
        return error.code
    except OSError as error:
        return type(error).__name__


def main() -> None:
    """Become the other user, and try."""
    uid, home = int(sys.argv[1]), sys.argv[2]
    for act in tries(places({"HOME": "/nonexistent"})).values():
        outcome(act)  # in a home where nothing is: whatever is imported late is imported now
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    where = places({"HOME": home, "HIVED_RUNTIME_DIR": f"{home}/run", "XDG_STATE_HOME": f"{home}/state"})
    print(json.dumps({name: outcome(act) for name, act in tries(where).items()}))


if __name__ == "__main__":
    main()
