"""Why nothing listens, in the most special words that what is known allows."""

from __future__ import annotations

import pytest

from hived.decisions.absence import other_loopbacks, shown_address, why_down
from hived.decisions.outcomes import Circumstances
from hived_client.resolution import fault_fields
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.kinds import OLLAMA
from hived_client.vocabulary.world import Endpoint, Installation, Process, Source

HERE, THERE = "http://127.0.0.1:11434", "http://10.0.0.7:11434"
MISSING = Installation(found=False)
UNIT = Installation(
    found=True,
    path="/usr/local/bin/ollama",
    owner="system unit ollama.service",
    start="sudo systemctl start ollama",
)
BY_HAND = Installation(found=True, path="/usr/bin/ollama")
ELSEWHERE = Installation(found=True, path="/opt/o/ollama", start="/opt/o/ollama serve")


def why(url: str = HERE, source: Source = "configuration", origin: str = "", **facts: object) -> Fault:
    process = facts.pop("process", None)
    known = facts.pop("known", None)
    version, mode = facts.pop("version", None), facts.pop("mode", None)
    endpoint = Endpoint(
        name="ollama",
        provider="ollama",
        url=url,
        source=source,
        origin=origin,
        process=process,  # type: ignore[arg-type]
        installation=known,  # type: ignore[arg-type]
        version=version,  # type: ignore[arg-type]
        mode=mode,  # type: ignore[arg-type]
    )
    now = Circumstances(at=1.0, **facts)  # type: ignore[arg-type]
    return why_down(endpoint, now, OLLAMA, fault_fields(endpoint, OLLAMA))


OURS = Process(pid=1, command=(), log="", name="ollama", provider="ollama", port=4321)


@pytest.mark.parametrize(
    ("facts", "code", "hint"),
    [
        ({}, "server.down", "ollama serve"),
        ({"installation": BY_HAND}, "server.down", "ollama serve"),
        ({"installation": ELSEWHERE}, "server.down", "/opt/o/ollama serve"),
        ({"installation": UNIT}, "server.owned_down", "sudo systemctl start ollama"),
        ({"known": UNIT}, "server.owned_down", "sudo systemctl start ollama"),
        ({"known": MISSING, "installation": UNIT}, "server.owned_down", "sudo systemctl start ollama"),
        ({"installation": UNIT, "inside": "wsl"}, "server.owned_down", "sudo systemctl start ollama"),
        ({"inside": "wsl"}, "server.down", "ollama serve"),
        ({"process": OURS}, "server.down", "hived start ollama --port 4321"),
    ],
)
def test_what_is_installed_is_started_through_its_owner(
    facts: dict[str, object], code: str, hint: str
) -> None:
    found = why(**facts)  # type: ignore[arg-type]
    assert (found.code, found.hint) == (code, hint)


def test_the_owner_is_named() -> None:
    assert "system unit ollama.service starts it" in why(installation=UNIT).message


@pytest.mark.parametrize(("platform", "hint"), [("linux", OLLAMA.install), ("darwin", "brew install ollama")])
def test_what_is_not_installed_is_installed_as_its_system_has_it(
    platform: str, hint: str, monkeypatch: pytest.MonkeyPatch, other_system: None
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    found = why(installation=MISSING)
    assert (found.code, found.hint) == ("server.not_installed", hint)


@pytest.mark.parametrize(
    ("inside", "hint"),
    [
        ("wsl", r"set networkingMode=mirrored under [wsl2] in %UserProfile%\.wslconfig"),
        (
            "docker",
            "set providers.ollama.api_base in ~/.hive/configuration.json to http://host.docker.internal:11434",
        ),
        (
            "podman",
            "set providers.ollama.api_base in ~/.hive/configuration.json to http://host.containers.internal:11434",
        ),
    ],
)
def test_a_guest_is_shown_the_way_to_its_host(inside: str, hint: str) -> None:
    found = why(installation=MISSING, inside=inside)
    assert (found.code, found.hint) == ("server.maybe_on_host", hint)
    assert "?" not in found.message


@pytest.mark.parametrize("seen", [{"version": "0.32.1"}, {"mode": "v1"}])
@pytest.mark.parametrize("inside", [None, "wsl", "docker"])
def test_what_has_answered_here_is_not_said_to_be_missing(seen: dict[str, str], inside: str | None) -> None:
    found = why(installation=MISSING, inside=inside, **seen)  # type: ignore[arg-type]
    assert (found.code, found.hint) == ("server.down", "ollama serve")


def test_of_a_server_elsewhere_this_machine_knows_nothing() -> None:
    for facts in ({"installation": MISSING}, {"installation": UNIT}, {"other": "[::1]:1"}, {"inside": "wsl"}):
        assert why(THERE, **facts).code == "server.down"


@pytest.mark.parametrize(
    ("source", "origin", "hint"),
    [
        ("environment", "OLLAMA_HOST", "export OLLAMA_HOST=http://[::1]:11434"),
        (
            "configuration",
            "providers.ollama.api_base",
            "set providers.ollama.api_base in ~/.hive/configuration.json to http://[::1]:11434",
        ),
    ],
)
def test_what_listens_at_the_other_family_is_named_before_anything_else(
    source: Source, origin: str, hint: str
) -> None:
    found = why(source=source, origin=origin, other="[::1]:11434", installation=MISSING)
    assert (found.code, found.hint) == ("server.other_family", hint)
    assert found.message == "Nothing listens at 127.0.0.1:11434, but [::1]:11434 answers."


@pytest.mark.parametrize(
    ("url", "others"),
    [
        ("http://127.0.0.1:8080", (("::1", 8080),)),
        ("http://[::1]:8080", (("127.0.0.1", 8080),)),
        ("http://localhost:8080", (("127.0.0.1", 8080), ("::1", 8080))),
        ("http://127.0.0.2:8080", ()),
        ("http://10.0.0.7:8080", ()),
    ],
)
def test_only_a_loopback_has_another_family(url: str, others: tuple[tuple[str, int], ...]) -> None:
    assert other_loopbacks(url) == others


def test_an_address_is_shown_as_in_a_url() -> None:
    assert (shown_address("::1", 1), shown_address("127.0.0.1", 1)) == ("[::1]:1", "127.0.0.1:1")
