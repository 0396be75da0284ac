"""What ``hived status`` says of what it has not seen."""

from __future__ import annotations

import msgspec

from hived.cli.screen import status_lines
from hived_client.doors.files import Known
from hived_client.doors.paths import Places
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import Endpoint, Model, State, World


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


def test_that_a_server_is_not_at_its_default_port_is_no_news_where_it_is_elsewhere(where: Places) -> None:
    here = msgspec.structs.replace(guess(4, "ready"), source="configuration")
    assert "was not found" not in status(where, guess(1, "down"), here)
    known = Known(
        world=World(generation=1, endpoints=(guess(1, "down"), here)),
        verdict="absent",
        age=None,
        places=where,
    )
    assert "llama.cpp was not found at 127.0.0.1:1" in "\n".join(status_lines(known, 0, everything=True))
    on_disk = msgspec.structs.replace(guess(1, "down"), models=(Model(name="m"),))
    assert "llama.cpp was not found at 127.0.0.1:1; " in status(where, on_disk, here)


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
