"""Which of the caller's variables a service gets, and how they are written down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived.service.surroundings import (
    environment_file,
    path_of,
    places_of,
    read_environment_file,
    variables_of,
)

FOLDERS = {"/usr/bin", "/bin", "/here/bin"}


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/usr/bin:/bin", "/usr/bin:/bin"),
        ("/usr/bin:/nowhere:/bin", "/usr/bin:/bin"),
        ("/usr/bin:/bin:/usr/bin/", "/usr/bin:/bin"),
        (":/bin:", "/bin"),
        ("/usr/../bin", "/bin"),
        ("", ""),
    ],
)
def test_a_path_is_absolute_has_each_folder_once_and_only_those_that_are_there(path: str, kept: str) -> None:
    assert path_of(path, FOLDERS.__contains__) == kept


def test_a_relative_folder_is_where_the_caller_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert path_of("usr/bin", FOLDERS.__contains__) == "/usr/bin"


def test_the_variables_that_matter_are_found_and_no_others() -> None:
    environment = {
        "OLLAMA_HOST": "a",
        "LLAMA_ARG_PORT": "1",
        "HIVED_X": "b",
        "LAB_KEY": "sk",
        "SECRET_KEY": "sk",
        "HOME": "/h",
        "HIVED_RUNTIME_DIR": "/r",
        "HIVED_MANAGED_BY": "client",
        "XDG_RUNTIME_DIR": "/run/user/1",
        "OLLAMA_MODELS": "",
    }
    found = variables_of(environment, keys=("LAB_KEY",))
    assert list(found) == ["HIVED_X", "LAB_KEY", "LLAMA_ARG_PORT", "OLLAMA_HOST"]


def test_what_decides_the_places_is_made_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    given = {"HIVE_HOME": "other", "XDG_STATE_HOME": "relative", "OLLAMA_HOST": "a", "HIVED_RUNTIME_DIR": ""}
    assert places_of(given) == {"HIVE_HOME": "/other"}


VALUES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)


@given(st.dictionaries(st.from_regex("[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), VALUES))
def test_what_is_written_for_the_service_is_read_as_it_was(variables: dict[str, str]) -> None:
    assert read_environment_file(environment_file(variables).decode()) == variables


@given(st.text())
def test_no_file_breaks_the_reading(text: str) -> None:
    assert isinstance(read_environment_file(text), dict)


def test_bytes_that_are_no_text_are_left_out() -> None:
    assert read_environment_file(environment_file({"A": "\udcff", "B": "b"}).decode()) == {"B": "b"}


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "OLLAMA_KEEP_ALIVE", "OLLAMA_CONTEXT_LENGTH", "OLLAMA_HOST", "VLLM_USE_V1"),
        *("VLLM_API_KEY", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION"),
    ],
)
def test_what_the_servers_that_are_started_go_by_is_taken_along(name: str) -> None:
    assert variables_of({name: "1", "HTTP_PROXY": "http://proxy"}) == {name: "1"}
