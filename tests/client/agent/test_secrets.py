"""What servers and addresses hold of secrets reaches no sentence."""

from __future__ import annotations

import json

import msgspec
import pytest

from hived_client.agent.call_faults import said_no
from hived_client.agent.hive_mapping import down
from hived_client.resolution import Target
from hived_client.vocabulary.kinds import shown_url

KEY = 'sk-SECRET/"with-signs"-0123456789'
TARGET = Target(
    model="hosted_vllm/m",
    api_base="http://user:hunter2@gpu:8000/v1",
    endpoint="vllm",
    provider="vllm",
    name="m",
    api_key=KEY,
)


@pytest.mark.parametrize("before", ["", "x" * 185, "x" * 199, "x" * 490, "é" * 180])
@pytest.mark.parametrize("shape", ["plain", "json", "escaped slash"])
def test_a_key_that_a_gateway_repeats_is_told_nowhere_not_even_its_beginning(before: str, shape: str) -> None:
    said = f"{before} the key {KEY} is wrong"
    body = said if shape == "plain" else json.dumps({"error": {"message": said}})
    if shape == "escaped slash":
        body = body.replace("/", "\\/")
    found = said_no(TARGET, 400, body.encode())
    assert "SECRET" not in found.message
    assert "hunter2" not in str(msgspec.to_builtins(found))


def test_a_password_in_an_address_is_told_nowhere() -> None:
    assert "hunter2" not in down(TARGET).message
    assert "gpu:8000" in down(TARGET).message
    assert "hunter2" not in repr(TARGET)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://gpu:11434", "http://gpu:11434"),
        ("http://u:p@gpu:11434/v1", "http://gpu:11434/v1"),
        ("http://u:p@ss@gpu", "http://gpu"),
        ("u:p@gpu:11434", "gpu:11434"),
        ("http://[::1]:1/a@b", "http://[::1]:1/a@b"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_whose_it_is(url: str, shown: str) -> None:
    assert shown_url(url) == shown
