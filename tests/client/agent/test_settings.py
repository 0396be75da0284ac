"""What a run reads of the configuration, whatever lies in its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hived_client.agent import settings
from hived_client.agent.settings import names_server_of, preferred_model


def written(folder: Path, text: str) -> str:
    path = folder / "configuration.json"
    path.write_text(text, encoding="utf-8")
    return os.fspath(path)


@pytest.mark.parametrize(
    ("llm", "model"),
    [
        ({"provider": "ollama", "model": "qwen3"}, "ollama/qwen3"),
        ({"provider": "ollama", "model": "Ollama/qwen3", "num_ctx": 7}, "Ollama/qwen3"),
        ({"provider": "ollama"}, None),
        ({"provider": "ollama", "model": 7}, None),
        ({"provider": None, "model": "qwen3"}, None),
        (["ollama"], None),
    ],
)
def test_the_preferred_model_is_the_one_of_the_section_llm(
    llm: object, model: str | None, tmp_path: Path
) -> None:
    assert preferred_model(written(tmp_path, "\ufeff" + json.dumps({"llm": llm}))) == model


def test_a_server_is_named_by_the_prefix(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps({"llm": 7, "providers": {"Lab": {"api_base": "http://h:1"}, "x": 7}}))
    assert names_server_of(" lab/qwen3", path)
    assert names_server_of("X/qwen3", path)
    assert not names_server_of("openai/gpt", path)
    assert not names_server_of("lab", path)


@pytest.mark.parametrize("text", ["", "[]", "7", "{", '{"providers": ["lab"], "llm": 7}', "[" * 9999])
def test_what_is_no_configuration_says_nothing(text: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    assert not names_server_of("lab/m", path)
    assert preferred_model(path) is None


def test_bytes_that_are_no_text_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "configuration.json"
    path.write_bytes(b'{"providers": {"lab\xff": {}}}')
    assert not names_server_of("lab/m", os.fspath(path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = os.fspath(tmp_path / "configuration.json")
    os.mkfifo(path)
    held = os.open(path, os.O_RDWR)  # opened for reading it would not fail, and be waited for
    try:
        os.write(held, b'{"providers": {"lab": {}}}')
        assert not names_server_of("lab/m", path)
        assert preferred_model(path) is None
        assert os.read(held, 100) == b'{"providers": {"lab": {}}}'
    finally:
        os.close(held)


def test_what_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, json.dumps({"providers": {"lab": {}}}))
    assert names_server_of("lab/m", path)
    monkeypatch.setattr(settings, "MOST_BYTES", 9)
    assert not names_server_of("lab/m", path)
