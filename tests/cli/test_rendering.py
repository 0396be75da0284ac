"""What ``hived status`` says of what it has not seen."""

from __future__ import annotations

from hived.cli.screen import status_lines
from hived_client.doors.files import Known
from hived_client.doors.paths import Places
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import Endpoint, State, World


def status(where: Places, *endpoints: Endpoint) -> str:
    world = World(generation=1, endpoints=endpoints)
    return "\n".join(status_lines(Known(world=world, verdict="absent", age=None, places=where), 0))


def guess(port: int, state: State) -> Endpoint:
    return Endpoint(
        name=f"llamacpp-{port}",
        provider="llamacpp",
        url=f"http://127.0.0.1:{port}",
        source="default",
        locality="device",
        state=state,
    )


def test_what_was_not_looked_for_is_not_said_to_be_missing(where: Places) -> None:
    said = status(where, guess(1, "down"), guess(2, "unknown"), guess(3, "down"))
    assert "llama.cpp was not found at 127.0.0.1:1, 127.0.0.1:3\n" in said
    assert said.endswith("llama.cpp has not been looked for yet at 127.0.0.1:2")


def test_every_name_of_a_server_is_shown(where: Places) -> None:
    endpoint = Endpoint(
        name="lab",
        aliases=("work", "desk"),
        provider="vllm",
        url="http://127.0.0.1:1",
        source="configuration",
        locality="device",
        state="ready",
    )
    assert "also called work, desk" in status(where, endpoint)


def test_a_sentence_is_broken_between_words_and_its_command_never(where: Places) -> None:
    start = "ollama serve " + "-" * 60
    problem = fault("server.down", title="Ollama", url="http://127.0.0.1:11434", start=start)
    world = World(generation=1, problems=(problem,))
    rows = status_lines(Known(world=world, verdict="fresh", age=None, places=where), 40)
    at = rows.index("problems") + 1
    assert rows[at : at + 2] == ["  Ollama is not running at", "  http://127.0.0.1:11434."]
    assert rows[at + 2].endswith("-" * 60)
