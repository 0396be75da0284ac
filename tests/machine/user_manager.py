"""The systemd of a user, in little: ``systemd-run`` and ``systemctl`` on a PATH, with real processes.

Written after systemd 252. A unit has a supervisor of its own, which reaps its process, ends what that left
behind (until then the unit is ``deactivating`` and has its name), and keeps how it ended where it ended
badly. One that leaves running what it left behind keeps its name for as long as that lives. The real one is
tested in tests/systemd.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

_COMMON = """#!{python} -I
import json, os, signal, subprocess, sys, time

UNITS = {units!r}
assert sys.argv[1] == "--user", sys.argv
words = sys.argv[2:]
broken = os.path.join(UNITS, "broken")

def path(unit):
    return os.path.join(UNITS, unit + ".json")

def read(unit):
    try:
        with open(path(unit)) as file:
            return json.load(file)
    except FileNotFoundError:
        return {{"ActiveState": "inactive", "MainPID": 0, "ExecMainCode": 0, "ExecMainStatus": 0}}

def write(unit, state):
    with open(path(unit) + ".new", "w") as file:
        json.dump(state, file)
    os.replace(path(unit) + ".new", path(unit))

"""

_RUN = """
unit, properties = "", []
while words[0] != "--":
    word = words.pop(0)
    if word.startswith("--unit="):
        unit = word[7:]
    elif word == "-p":
        properties.append(words.pop(0).split("=", 1))
    else:
        assert word == "--quiet" or word.startswith("--description="), word
argv = [word.replace("$$", "$") for word in words[1:]]
if os.path.exists(broken):
    sys.exit("Failed to start transient service unit: " + open(broken).read())
if os.path.exists(path(unit)):
    sys.exit("Failed to start transient service unit: Unit " + unit
             + " was already loaded or has a fragment file.")
said = dict(properties)
variables = {{}}
with open(said["EnvironmentFile"]) as file:
    assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
    for line in file.read().splitlines():
        name, text = line.split("=", 1)
        text = text[1:-1]
        for letter in '"`$' + chr(92):
            text = text.replace(chr(92) + letter, letter)
        variables[name] = text
variables["INVOCATION_ID"] = unit
is_oneshot = said["Type"] == "oneshot"
told, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    os.close(told)
    quiet = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(quiet, number)
    output = os.open(said["StandardOutput"].removeprefix("append:"), os.O_WRONLY | os.O_APPEND)
    try:
        child = subprocess.Popen(argv, cwd=said["WorkingDirectory"], env=variables, start_new_session=True,
                                 stdin=subprocess.DEVNULL, stdout=output, stderr=output, umask=0o077)
    except OSError:
        os.write(tell, b"1")
        os._exit(1)
    state = {{"ActiveState": "activating" if is_oneshot else "active", "MainPID": child.pid,
              "ExecMainCode": 0, "ExecMainStatus": 0}}
    write(unit, state)
    if not is_oneshot:
        os.write(tell, b"0")
    code = child.wait()
    state.update(MainPID=0, ExecMainCode=1 if code >= 0 else 2, ExecMainStatus=abs(code))
    if is_oneshot and code == 0:
        write(unit, state | {{"ActiveState": "active"}})
        os.write(tell, b"0")
        os._exit(0)
    write(unit, state | {{"ActiveState": "deactivating"}})
    end = time.monotonic() + float(said["TimeoutStopSec"])
    try:
        os.killpg(child.pid, signal.SIGTERM)
        while True:
            os.killpg(child.pid, 0)
            if time.monotonic() > end:
                os.killpg(child.pid, signal.SIGKILL)
            time.sleep(0.01)
    except ProcessLookupError:
        pass
    if code in (0, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, -signal.SIGPIPE):
        os.unlink(path(unit))
    else:
        write(unit, state | {{"ActiveState": "failed"}})
    if is_oneshot:
        os.write(tell, b"1")
    os._exit(0)
os.close(tell)
if os.read(told, 1) != b"0":
    sys.exit("Job for " + unit + " failed because the control process exited with error code.")
"""

_CTL = """
def is_left(unit):
    wanted = ("INVOCATION_ID=" + unit).encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/" + pid + "/environ", "rb") as file:
                if wanted in file.read().split(bytes(1)):
                    return True
        except OSError:
            pass
    return False

if words[0] == "is-system-running":
    print("running")
elif words[0] == "show-environment":
    print("LANG=C.UTF-8")
elif words[0] == "show":
    state = read(words[1])
    for word in words[2:]:
        name = word.removeprefix("--property=")
        print(name + "=" + str(state[name]))
elif words[0] == "reset-failed":
    if read(words[1])["ActiveState"] != "failed":
        sys.exit("Failed to reset failed state of unit " + words[1] + ": Unit " + words[1] + " not loaded.")
    os.unlink(path(words[1]))
elif words[0] == "stop":
    if not os.path.exists(path(words[1])):
        sys.exit("Failed to stop " + words[1] + ": Unit " + words[1] + " not loaded.")
    pid = read(words[1])["MainPID"]
    if pid:
        os.kill(pid, signal.SIGTERM)
        while read(words[1])["ActiveState"] not in ("inactive", "failed"):
            time.sleep(0.01)
    elif read(words[1])["ActiveState"] == "active" and is_left(words[1]):
        write(words[1], read(words[1]) | {{"ActiveState": "inactive"}})
    elif read(words[1])["ActiveState"] == "active":
        os.unlink(path(words[1]))
else:
    sys.exit("Unknown command verb " + words[0] + ".")
"""


class UserManagerPrograms:
    """Programs in ``folder`` that do what the user's systemd does, below the runtime folder ``runtime``."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self._units = runtime / "units"
        self._runtime = runtime
        self._socket = socket.socket(socket.AF_UNIX)
        folder.mkdir(exist_ok=True)
        self._units.mkdir(parents=True)
        (runtime / "systemd").mkdir()
        self._socket.bind(str(runtime / "systemd" / "private"))
        for name, body in (("systemd-run", _RUN), ("systemctl", _CTL)):
            program = folder / name
            program.write_text((_COMMON + body).format(python=sys.executable, units=str(self._units)))
            program.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which it is found, PATH apart."""
        return {"XDG_RUNTIME_DIR": str(self._runtime)}

    @property
    def units(self) -> dict[str, dict[str, object]]:
        """The units that are loaded."""
        return {path.stem: json.loads(path.read_text()) for path in self._units.glob("*.json")}

    def load(self, unit: str) -> None:
        """Load a unit in which nothing of ours runs."""
        state = {"ActiveState": "active", "MainPID": 0, "ExecMainCode": 0, "ExecMainStatus": 0}
        (self._units / f"{unit}.json").write_text(json.dumps(state))

    def break_down(self, words: str) -> None:
        """Have every start fail with these words from now on."""
        (self._units / "broken").write_text(words)

    def close(self) -> None:
        """End what its units run."""
        self._socket.close()
        for state in self.units.values():
            pid = state["MainPID"]
            if isinstance(pid, int) and pid > 0:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def user_manager(folder: Path, runtime: Path) -> Iterator[UserManagerPrograms]:
    """Put the programs there, and end at the end what they started."""
    programs = UserManagerPrograms(folder, runtime)
    try:
        yield programs
    finally:
        programs.close()
