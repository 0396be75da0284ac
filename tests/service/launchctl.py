"""``launchctl`` as a program on a PATH, with real processes, for what hived asks of it.

Written after launchctl(1), launchd.plist(5) and what people report of its exit codes, not after a Mac: 113
for what is not loaded, 5 ("Input/output error") for a second bootstrap, 125 for a domain that is not there.
Every call is written down.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

_LAUNCHCTL = """#!{python} -I
import json, os, plistlib, signal, subprocess, sys, time

FOLDER = {folder!r}
DOMAINS = {domains!r}
words = sys.argv[1:]
with open(os.path.join(FOLDER, "calls"), "a") as calls:
    calls.write(json.dumps(words) + "\\n")
loaded = os.path.join(FOLDER, "loaded.json")

def end(code, text):
    print(text, file=sys.stderr)
    sys.exit(code)

def read():
    try:
        with open(loaded) as file:
            return json.load(file)
    except FileNotFoundError:
        return {{}}

def write(agents):
    with open(loaded, "w") as file:
        json.dump(agents, file)

def lives(pid):
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (OSError, TypeError):
        return False

def begin(agent):
    with open(agent["path"], "rb") as file:
        plist = plistlib.load(file)
    variables = {{"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin", "XPC_SERVICE_NAME": plist["Label"],
                 "PYTHONPATH": os.environ.get("PYTHONPATH", "")}}
    variables.update(plist["EnvironmentVariables"])
    with open(plist["StandardErrorPath"], "ab") as log:
        child = subprocess.Popen(plist["ProgramArguments"], env=variables, stdin=subprocess.DEVNULL,
                                 stdout=log, stderr=log, start_new_session=True, umask=plist["Umask"])
    agent["pid"] = child.pid

agents = read()
verb, target = words[0], next(word for word in words[1:] if not word.startswith("-"))
domain, _, label = target.rpartition("/") if target.count("/") == 2 else (target, "", "")
if domain not in DOMAINS:
    end(125, "Domain does not support specified action")
if verb == "bootstrap":
    with open(words[2], "rb") as file:
        plist = plistlib.load(file)
    if plist["Label"] in agents:
        end(5, "Bootstrap failed: 5: Input/output error")
    agents[plist["Label"]] = agent = {{"path": words[2], "pid": None}}
    if plist.get("RunAtLoad"):
        begin(agent)
elif not label:
    print(domain, "= {{")
elif label not in agents and verb in ("print", "bootout", "kickstart"):
    end(113, "Could not find service \\"%s\\" in domain for %s" % (label, domain))
elif verb == "print":
    print(label, "= {{\\n\\tstate =", "running" if lives(agents[label]["pid"]) else "not running")
    if lives(agents[label]["pid"]):
        print("\\tpid =", agents[label]["pid"])
elif verb == "bootout":
    pid = agents.pop(label)["pid"]
    if lives(pid):
        os.kill(pid, signal.SIGTERM)
        while lives(pid):
            time.sleep(0.01)
elif verb == "kickstart":
    if not lives(agents[label]["pid"]):
        begin(agents[label])
elif verb != "enable":
    end(64, "Unrecognized subcommand: " + verb)
write(agents)
"""


class LaunchctlProgram:
    """``launchctl`` in a folder. ``domains`` are those that there are."""

    def __init__(
        self, folder: Path, domains: tuple[str, ...] = (f"gui/{os.getuid()}", f"user/{os.getuid()}")
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.path = folder / "launchctl"
        self.path.write_text(
            _LAUNCHCTL.format(python=sys.executable, folder=str(folder), domains=tuple(domains))
        )
        self.path.chmod(0o755)

    @property
    def calls(self) -> list[list[str]]:
        """Every call that was made."""
        path = self._folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def agents(self) -> dict[str, dict[str, Any]]:
        """What is loaded, by label."""
        path = self._folder / "loaded.json"
        found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def close(self) -> None:
        """End what it started."""
        for agent in self.agents.values():
            try:
                os.kill(agent["pid"], signal.SIGKILL)
            except (OSError, TypeError):
                continue
