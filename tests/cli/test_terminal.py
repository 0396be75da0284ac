"""Whatever a server, a file or another version calls a thing, a terminal obeys nothing of it."""

from __future__ import annotations

import json

import msgspec
import pytest

from hived.cli.document import world_document
from hived.cli.events import line
from hived.cli.rendering import as_json, target_lines
from hived.cli.running import sentence, shown, shown_json
from hived.cli.screen import status_lines
from hived_client.doors.files import Known
from hived_client.doors.paths import Places
from hived_client.resolution import Target
from hived_client.vocabulary.faults import Fault
from hived_client.vocabulary.world import Change, Configuration, Endpoint, Model, Source, State, World
from tests.cli.words import hived
from tests.daemon.running import Running, configure, wait_prompt, wait_until
from tests.servers.loopback import json_bytes
from tests.servers.strangers import LyingLlamaCpp

HARMFUL = {
    "ansi": "m\x1b[2J\x1b]0;owned\x07",
    "c1": "m\x9b2J\x85",
    "bidi": "m\u202egpj.exe\u2066",
    "zero width": "m\u200b\u200d\ufeff",
    "lines": "m\nok\r\u2028ok",
    "tags": "m\U000e0041\U000e0042",
    "backspace": "m\b\b\x7f",
    "half a character": "m\ud800",
}


def obeyed(text: str) -> list[str]:
    """Return what of a text a terminal would do something with, ends of lines apart."""
    return [character for character in text.replace("\n", "") if not character.isprintable()]


def known(where: Places, name: str) -> Known:
    fault = Fault(code="server.failed", message=f"{name} failed.", hint=f"echo {name}")
    model = Model(name=name, aliases=(name,), quantization=name, capabilities=(name,), fault=fault)
    seen: tuple[tuple[Source, State, tuple[Model, ...] | None], ...] = (
        ("configuration", "ready", (model,)),
        ("default", "down", (model,)),
        ("default", "down", None),
        ("default", "unknown", None),
    )
    endpoints = tuple(
        Endpoint(
            name=f"{source}{name}",
            provider=name,
            url=f"http://127.0.0.1:9/{name}",
            source=source,
            origin=name,
            state=state,
            version=name,
            models=models,
            aliases=(name,),
            reason=fault,
        )
        for source, state, models in seen
    )
    world = World(
        generation=1,
        endpoints=endpoints,
        problems=(fault,),
        configuration=Configuration(path=f"/{name}", state="broken", error=fault),
    )
    return Known(world=world, verdict="absent", age=None, places=where, problem=fault)


@pytest.mark.parametrize("harm", HARMFUL)
def test_nothing_that_is_printed_is_obeyed(where: Places, harm: str) -> None:
    name = HARMFUL[harm]
    everything = known(where, name)
    fault = everything.world.problems[0]
    change = Change(event="model.state", at=0.0, endpoint=name, model=name, before=name, reason=fault)
    target = Target(
        model=name, api_base=name, endpoint=name, provider=name, name=name, key_ref=name, extra={name: 1}
    )
    for text in (
        *status_lines(everything, 80),
        *status_lines(everything, 0),
        *target_lines(name, target),
        line(change),
        *sentence(fault).splitlines(),
    ):
        assert obeyed(text) == []
        assert "\n" not in text


@pytest.mark.parametrize("harm", [harm for harm in HARMFUL if harm != "half a character"])
def test_json_says_the_same_and_nothing_of_it_is_obeyed(where: Places, harm: str) -> None:
    everything = known(where, HARMFUL[harm])
    text = as_json(world_document(everything))
    assert obeyed(text) == []
    document = json.loads(text)
    assert document["models"][0]["name"] == HARMFUL[harm]
    change = Change(event="model.state", at=0.0, model=HARMFUL[harm])
    told = shown_json(msgspec.json.encode(change).decode())
    assert obeyed(told) == []
    assert json.loads(told)["model"] == HARMFUL[harm]


def test_what_is_harmless_is_left_as_it_is() -> None:
    plain = '{\n  "name": "模型 – naïve 😀 \\u001b"\n}'
    assert shown_json(plain) == plain
    assert shown("模型 – naïve 😀") == "模型 – naïve 😀"


@pytest.mark.stress
def test_a_long_list_is_shown_quickly() -> None:
    text = "\n".join(f'"model-{n}": "{"x" * 90}"' for n in range(100_000))
    assert shown_json(text) == text
    wait_prompt(lambda: shown_json(text), 1.0)


@pytest.mark.stress
def test_a_router_with_harmful_names_is_shown_by_every_verb(environment: dict[str, str]) -> None:
    names = [*(name for harm, name in HARMFUL.items() if harm != "half a character"), "x" * 600, "good"]
    listing = json_bytes({"data": [{"id": name, "status": {"value": "unloaded"}} for name in names]})
    with LyingLlamaCpp(props=b'{"role":"router","build_info":"b1\\u001b[2J"}', models=listing) as server:
        configure(environment, {"lab": {"like": "llamacpp", "api_base": server.url}})
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            assert [m.name for m in daemon.client.world().world.endpoints[0].models or ()] == ["good"]
            for words in (
                ["status"],
                ["status", "--json"],
                ["resolve", "lab/good"],
                ["resolve", "lab/good", "--json"],
                *(["resolve", f"lab/{name}"] for name in names[:-1]),
                *(["resolve", f"lab/{name}", "--json"] for name in names[:2]),
                ["completion", "bash"],
            ):
                said = hived(environment, *words)
                assert obeyed((said.out + said.err).replace("\t", "")) == [], words
            server.models = json_bytes({"data": [{"id": "a\x1b[2J"}, {"id": "other"}]})
            daemon.client.refresh()
