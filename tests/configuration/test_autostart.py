from __future__ import annotations

import json
from pathlib import Path

import pytest

from hived.configuration.reading import Settings, read_settings
from hived.decisions.autostart import Autostart


def read(tmp_path: Path, providers: object) -> tuple[Settings, list[str]]:
    path = tmp_path / "configuration.json"
    path.write_text(json.dumps({"providers": providers}))
    settings, _ = read_settings(str(path), {}, last_good=None, now=0.0)
    return settings, [problem.message for problem in settings.problems]


def test_nothing_is_started_unless_it_is_said(tmp_path: Path) -> None:
    for entry in ({}, {"autostart": False}, {"autostart": None}):
        assert read(tmp_path, {"ollama": entry}) == (read(tmp_path, {})[0], [])


def test_true_and_a_model_are_read(tmp_path: Path) -> None:
    settings, problems = read(
        tmp_path,
        {
            "Ollama": {"autostart": True},
            "lab": {
                "like": "llamacpp",
                "api_base": "http://127.0.0.1:9000/v1",
                "autostart": {"model": "/m.gguf", "context": 8192, "arguments": ["--threads", "4"]},
            },
        },
    )
    assert problems == []
    assert settings.autostart == (
        Autostart(name="Ollama", provider="ollama", is_kind=True),
        Autostart(
            name="lab", provider="llamacpp", model="/m.gguf", context=8192, arguments=("--threads", "4")
        ),
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (1, "is neither true nor false nor an object"),
        ("true", "is neither true nor false nor an object"),
        ([], "is neither true nor false nor an object"),
        ({"modle": "/m"}, "has 'modle', which is none of model, context and arguments"),
        ({"model": 3}, "has a model that is not text"),
        ({"model": ""}, "has a model that is not text"),
        ({"model": "a\u0000b"}, "has a model that is not text"),
        ({"context": "much"}, "has a context that is not a whole number of tokens"),
        ({"context": -1}, "has a context that is not a whole number of tokens"),
        ({"arguments": "--x"}, "has arguments that are not a list of texts"),
        ({"arguments": [1]}, "has arguments that are not a list of texts"),
        ({"arguments": ["a"] * 257}, "has arguments that are not a list of texts"),
    ],
)
def test_what_cannot_be_read_is_a_problem_and_starts_nothing(tmp_path: Path, value: object, why: str) -> None:
    settings, problems = read(tmp_path, {"ollama": {"autostart": value}, "vllm": {"autostart": True}})
    assert [each.name for each in settings.autostart] == ["vllm"]
    assert len(problems) == 1
    assert "providers.ollama.autostart" in problems[0]
    assert why in problems[0]
