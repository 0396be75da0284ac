"""Where the address of an endpoint was given is what a hint tells to set."""

from __future__ import annotations

import pytest

from hived_client.resolution import fault_fields
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.kinds import OLLAMA
from hived_client.vocabulary.world import Endpoint, Source


@pytest.mark.parametrize(
    ("source", "origin", "hint"),
    [
        (
            "configuration",
            "providers.lab.api_base",
            "set providers.lab.api_base in ~/.hive/configuration.json",
        ),
        ("configuration", "llm.api_base", "set llm.api_base in ~/.hive/configuration.json"),
        ("environment", "OLLAMA_HOST", "export OLLAMA_HOST=…"),
        ("environment", "LLAMA_ARG_HOST and LLAMA_ARG_PORT", "export LLAMA_ARG_HOST=…"),
        ("default", "", "set providers.lab.api_base in ~/.hive/configuration.json"),
        ("started", "", "set providers.lab.api_base in ~/.hive/configuration.json"),
    ],
)
@pytest.mark.parametrize("code", ["server.wrong", "server.unreachable"])
def test_the_hint_names_the_setting_that_gave_the_address(
    code: str, source: Source, origin: str, hint: str
) -> None:
    endpoint = Endpoint(name="lab", provider="ollama", url="http://h:1", source=source, origin=origin)
    assert fault(code, **fault_fields(endpoint, OLLAMA)).hint == hint
