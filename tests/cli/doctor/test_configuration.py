"""The configuration, the keys that it names, and proxies: each as a file and an environment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hived.cli.doctor.configuration import check_configuration, misspelt_keys, read_configuration
from hived.cli.doctor.findings import Finding
from tests.cli.doctor.findings_of import only, seen


def judged(folder: Path, document: object, **variables: str) -> list[Finding]:
    path = folder / "configuration.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    facts = read_configuration(str(path), variables, 0.0)
    return check_configuration(facts, facts.expected, variables)


def lab(**more: Any) -> dict[str, Any]:
    return {"providers": {"lab": {"like": "vllm", "api_base": "http://127.0.0.1:1/v1", **more}}}


CASES: list[tuple[str, object, dict[str, str], list[str]]] = [
    ("a good one", lab(), {}, []),
    ("an empty one", {}, {}, []),
    ("what belongs to Hive", {"llm": {"provider": "x"}, "anything": [1]}, {}, []),
    ("a broken one", '{"providers": }', {}, ["fail configuration.broken"]),
    ("one that is no object", "[]", {}, ["fail configuration.invalid"]),
    ("an entry that cannot be used", {"providers": {"lab": 1}}, {}, ["warn configuration.invalid"]),
    ("a key that is not set", lab(api_key_env_var="LAB"), {}, ["warn key.missing"]),
    ("a key that is set", lab(api_key_env_var="LAB"), {"LAB": "v"}, []),
    ("a key that is written there", lab(api_key="sk-abc"), {}, ["warn configuration.key_written"]),
    ("a setting that is misspelt", lab(api_bse="x"), {}, ["warn configuration.misspelt"]),
    ("a setting of a newer version", lab(weights="x"), {}, []),
    ("a proxy that takes local calls", lab(), {"HTTP_PROXY": "http://p:1"}, ["warn proxy.hijacks"]),
    (
        "a proxy that spares this device",
        {"hived": {"guess": False}, **lab()},
        {"HTTP_PROXY": "http://p:1", "NO_PROXY": "127.0.0.1"},
        [],
    ),
]


@pytest.mark.parametrize(
    ("document", "variables", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_configuration_is_judged(
    tmp_path: Path, document: object, variables: dict[str, str], expected: list[str]
) -> None:
    findings = judged(tmp_path, document, **variables)
    assert seen(findings) == expected
    assert all(each.fix for each in findings if each.level in ("warn", "fail"))


def test_a_file_that_is_missing_is_well(tmp_path: Path) -> None:
    facts = read_configuration(str(tmp_path / "none.json"), {}, 0.0)
    assert "none is needed" in only(check_configuration(facts, (), {}), "configuration.file").what


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "configuration.json"
    os.mkfifo(path)
    facts = read_configuration(str(path), {}, 0.0)
    assert seen(check_configuration(facts, (), {})) == ["fail configuration.unreadable"]


def test_what_is_misspelt_is_told_with_what_was_meant() -> None:
    document = {
        "hived": {"Guess": 1, "log_levle": 1},
        "providers": {"x": {"numctx": 1, "auto_start": 1}, "y": 3},
    }
    assert list(misspelt_keys(document)) == [
        ("hived.Guess", "guess"),
        ("hived.log_levle", "log_level"),
        ("providers.x.numctx", "num_ctx"),
        ("providers.x.auto_start", "autostart"),
    ]
    strange: tuple[object, ...] = (None, [], {"hived": 1, "providers": []}, {"providers": {"x": None}})
    for odd in strange:
        assert list(misspelt_keys(odd)) == []


def test_no_key_and_no_password_of_a_proxy_is_told(tmp_path: Path) -> None:
    findings = judged(
        tmp_path, lab(api_key="sk-abc"), HTTP_PROXY="http://me:hunter2@p:1", LAB="v", SECRET="hidden"
    )
    said = " ".join(f"{each.what} {each.fix}" for each in findings)
    assert "http://p:1" in said
    assert not [word for word in ("sk-abc", "hunter2", "hidden") if word in said]
