"""The start table: what was found at the place, and what hived does."""

from __future__ import annotations

import pytest

from hived.decisions.starting import Ground, before_start
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.kinds import OLLAMA, VLLM
from hived_client.vocabulary.world import Installation, State

HERE = Installation(found=True, path="/usr/local/bin/ollama")
NOWHERE = Installation(found=False)


def owned(owner: str, start: str) -> Installation:
    return Installation(found=True, path="/usr/local/bin/ollama", owner=owner, start=start)


UNIT = owned("system unit ollama.service", "sudo systemctl start ollama")
APP = owned("the Ollama app", "open -a Ollama")
BREW = owned("brew service ollama", "brew services start ollama")


@pytest.mark.parametrize(
    ("found", "state", "taken", "installation", "does", "hint"),
    [
        ("nobody, its program is here", "down", False, HERE, "begin", ""),
        ("nobody, and whose program it is takes too long to tell", "down", False, None, "begin", ""),
        ("nobody ever looked, and the port is free", None, False, HERE, "begin", ""),
        ("somebody's server", "ready", True, HERE, "adopt", ""),
        ("the system unit's server", "ready", True, UNIT, "adopt", ""),
        ("a server that is busy", "busy", True, HERE, "adopt", ""),
        ("a server that sleeps", "sleeping", True, HERE, "adopt", ""),
        ("a server that wants a key", "unauthorised", True, HERE, "adopt", ""),
        ("a server that is starting", "starting", True, HERE, "wait", ""),
        ("a server that loads", "loading", True, UNIT, "wait", ""),
        ("a stranger", "wrong_server", True, HERE, "start.port_taken", "ss -ltnp sport = :11434"),
        ("a server that hangs", "unreachable", True, HERE, "start.port_taken", "ss -ltnp sport = :11434"),
        ("somebody that nobody looked at", None, True, HERE, "start.port_taken", "ss -ltnp sport = :11434"),
        ("nobody; a system unit owns it", "down", False, UNIT, "start.owned", "sudo systemctl start ollama"),
        ("nobody; an app owns it", "down", False, APP, "start.owned", "open -a Ollama"),
        ("nobody; a brew service owns it", "down", False, BREW, "start.owned", "brew services start ollama"),
        (
            "nobody, and it is not installed",
            "down",
            False,
            NOWHERE,
            "start.not_installed",
            "curl -fsSL https://ollama.com/install.sh | sh",
        ),
    ],
)
def test_what_is_at_the_place_decides(
    monkeypatch: pytest.MonkeyPatch,
    found: str,
    state: State | None,
    taken: bool,
    installation: Installation | None,
    does: str,
    hint: str,
) -> None:
    monkeypatch.setattr("hived_client.vocabulary.faults.system", lambda: "linux")
    url, port = "http://127.0.0.1:11434", 11434
    ground = Ground(url=url, port=port, state=state, taken=taken, installation=installation)
    leap = before_start(OLLAMA, ground)
    assert (leap.code if isinstance(leap, Fault) else leap) == does, found
    assert (leap.hint if isinstance(leap, Fault) else "") == hint


def test_a_server_with_another_model_is_left_alone_and_who_has_a_port_is_said() -> None:
    url, port = "http://127.0.0.1:8000", 8000
    other = Ground(url=url, port=port, state="ready", taken=True, serves=False)
    assert before_start(VLLM, other) == "begin"
    taken = before_start(VLLM, Ground(url=url, port=port, state=None, taken=True, holder="nc (pid 7)"))
    assert isinstance(taken, Fault)
    assert taken.message == "Port 8000 is taken by nc (pid 7)."
