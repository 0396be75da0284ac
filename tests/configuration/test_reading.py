"""configuration.json is somebody else's file: whatever is in it, hived goes on, and says what is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived.configuration.document import MOST_ENTRIES
from hived.configuration.reading import MOST_BYTES, MOST_PROBLEMS, Settings, read_settings
from hived.decisions.expected import Given
from hived_client.vocabulary.world import Configuration

URL = "http://10.0.0.7:8080"
LAB = {"like": "llamacpp", "api_base": URL}


@pytest.fixture
def path(home: Path) -> Path:
    return home / "configuration.json"


def read(
    path: Path, environment: dict[str, str] | None = None, last_good: Settings | None = None
) -> tuple[Settings, Configuration]:
    return read_settings(str(path), environment or {}, last_good=last_good, now=5.0)


def read_document(path: Path, document: object) -> tuple[Settings, Configuration]:
    path.write_text(json.dumps(document))
    return read(path)


def urls(settings: Settings) -> list[tuple[str, str]]:
    return [(each.name, each.url) for each in settings.given]


GOOD = json.dumps({"providers": {"lab": LAB}}).encode()


@pytest.mark.parametrize(
    ("content", "code", "place"),
    [
        (b"", "configuration.broken", (1, 1)),
        (b"\n\n", "configuration.broken", (3, 1)),
        (GOOD[:-3], "configuration.broken", (1, len(GOOD) - 2)),
        (b'{\n  "providers": {\n    "a" 1\n  }\n}', "configuration.broken", (3, 9)),
        (b"{'a': 1}", "configuration.broken", (1, 2)),
        (GOOD + b"x", "configuration.broken", (1, len(GOOD) + 1)),
        (b'\xef\xbb\xbf{"a" 1}', "configuration.broken", (1, 6)),
        (b"\x00\x01\x02", "configuration.broken", (1, 1)),
        (b"\xff\xfe{\x00}\x00", "configuration.broken", (1, 1)),
        (b'{"a": "\xff"}', "configuration.broken", (1, 8)),
        # Half written, in the middle of a letter.
        ('\ufeff{\n "ü": "ö'.encode()[:-1], "configuration.broken", (2, 8)),
        (b"[" * 200_000, "configuration.invalid", None),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "configuration.invalid", None),
        (b'{"providers": ' + b"9" * 10_000 + b"}", "configuration.invalid", None),
        (b"[]", "configuration.invalid", None),
        (b"null", "configuration.invalid", None),
        (b'"providers"', "configuration.invalid", None),
        (b"1", "configuration.invalid", None),
    ],
)
def test_a_broken_file_changes_nothing_and_says_where_it_breaks(
    path: Path, content: bytes, code: str, place: tuple[int, int] | None
) -> None:
    path.write_bytes(GOOD)
    good, _ = read(path)
    path.write_bytes(content)
    kept, shown = read(path, last_good=good)
    assert kept is good
    assert shown.error is not None
    assert (shown.state, shown.error.code, shown.loaded_at) == ("broken", code, 5.0)
    if place is not None:
        assert (shown.error.fields["line"], shown.error.fields["column"]) == place


def test_a_file_that_was_never_good_leaves_the_environment(path: Path) -> None:
    path.write_bytes(b"{")
    settings, _ = read(path, {"LLAMA_ARG_PORT": "9"})
    assert urls(settings) == [("llamacpp", "http://127.0.0.1:9")]


def test_a_missing_file_is_an_empty_one(path: Path) -> None:
    settings, shown = read(path, {"LLAMA_ARG_PORT": "9"})
    assert urls(settings) == [("llamacpp", "http://127.0.0.1:9")]
    assert (shown.state, shown.error, settings.guess) == ("missing", None, True)


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "file for a folder", "endless"])
def test_what_is_not_a_file_is_said_to_be_none_and_nothing_waits_for_it(path: Path, kind: str) -> None:
    asked = path
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path)
        case "file for a folder":
            path.write_bytes(b"{}")
            asked = path / "configuration.json"
        case "endless":
            path.symlink_to("/dev/zero")
    kept, shown = read(asked, last_good=Settings(guess=False))
    assert shown.error is not None
    assert (shown.state, shown.error.code, kept.guess) == ("broken", "configuration.unreadable", False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_reported(path: Path) -> None:
    path.write_bytes(b"{}")
    path.chmod(0)
    _, shown = read(path)
    assert shown.error is not None
    assert shown.error.code == "configuration.unreadable"


def test_a_file_that_is_too_long_is_not_read(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    _, shown = read(path)
    assert shown.error is not None
    assert shown.error.code == "configuration.unreadable"
    assert str(MOST_BYTES) in shown.error.message


@pytest.mark.parametrize("content", [GOOD, b"\xef\xbb\xbf" + GOOD, b"\n\n " + GOOD + b"\r\n"])
def test_a_good_file_is_read_with_a_mark_before_it_or_blanks_around_it(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    settings, shown = read(path)
    assert urls(settings) == [("lab", URL)]
    assert (shown.state, shown.error) == ("ok", None)


def test_a_file_that_is_a_link_is_read(path: Path, home: Path) -> None:
    real = home / "dotfiles.json"
    real.write_bytes(GOOD)
    path.symlink_to(real)
    assert urls(read(path)[0]) == [("lab", URL)]


def test_five_megabytes_of_somebody_elses_settings_are_read(path: Path) -> None:
    document = {"sessions": ["x" * 1000] * 5000, "providers": {"lab": LAB}}
    assert urls(read_document(path, document)[0]) == [("lab", URL)]


def test_of_a_key_that_is_there_twice_the_last_one_counts(path: Path) -> None:
    path.write_bytes(b'{"providers": {"a": 1}, "providers": ' + json.dumps({"lab": LAB}).encode() + b"}")
    assert urls(read(path)[0]) == [("lab", URL)]


@pytest.mark.parametrize("section", [1, "x", [], True, 1.5])
def test_a_section_of_the_wrong_type_is_reported(path: Path, section: object) -> None:
    settings, shown = read_document(path, {"providers": section, "hived": section})
    assert [problem.fields["where"] for problem in settings.problems] == ["providers", "hived"]
    assert (shown.state, shown.problems) == ("ok", settings.problems)
    assert settings.guess is True


@pytest.mark.parametrize(
    ("name", "entry", "why"),
    [
        ("bad", None, "not an object"),
        ("bad", [], "not an object"),
        ("bad", URL, "not an object"),
        ("bad", {"api_base": URL}, "'like' can be"),
        ("bad", {"like": "sglang", "api_base": URL}, "not like any known provider"),
        ("bad", {"like": 1, "api_base": URL}, "'like' that is not text"),
        ("bad", {"like": [], "api_base": URL}, "'like' that is not text"),
        ("bad", {"like": "vllm", "api_base": 8000}, "api_base that is not text"),
        ("bad", {"like": "vllm", "api_base": ""}, "api_base that is empty"),
        ("bad", {"like": "vllm", "api_base": "http://[::1"}, "api_base that is not an address"),
        ("bad", {"like": "vllm", "api_base": "http://h:0"}, "port 0"),
        ("bad", {"like": "vllm", "api_base": "ftp://h"}, "ftp://"),
        ("bad", {"like": "vllm", "api_base": "http://a:hunter2@h"}, "api_key_env_var"),
        ("bad", {"like": "vllm", "api_base": "http://\ud800"}, "shown"),
        ("bad", {"like": "vllm", "api_base": URL, "api_key_env_var": "sk-hunter2"}, "api_key_env_var"),
        ("bad", {"like": "vllm", "api_base": URL, "api_key_env_var": 5}, "api_key_env_var"),
        ("bad", {"like": "vllm", "api_base": URL, "api_key_env_var": ""}, "api_key_env_var"),
        ("", LAB, "has a name"),
        ("a/b", LAB, "has a name"),
        ("a b", LAB, "has a name"),
        ("-a", LAB, "has a name"),
        ("x" * 65, LAB, "has a name"),
        ("a\n", LAB, "has a name"),
        ("\x1b[2J", LAB, "has a name"),
        ("\ud800", LAB, "has a name"),
        ("é", LAB, "has a name"),
    ],
)
def test_an_entry_that_cannot_be_used_is_reported_and_hides_no_other(
    path: Path, name: str, entry: object, why: str
) -> None:
    settings, shown = read_document(path, {"providers": {"first": LAB, name: entry, "last": LAB}})
    assert urls(settings) == [("first", URL), ("last", URL)]
    (problem,) = settings.problems
    assert shown == Configuration(path=str(path), state="ok", problems=(problem,), loaded_at=5.0)
    assert why in problem.message
    assert problem.message.isprintable()
    assert "hunter2" not in problem.message
    problem.message.encode()


@pytest.mark.parametrize(
    ("entry", "given"),
    [
        ({"api_base": URL + "/v1/"}, (URL, None)),
        ({"api_base": URL, "api_key_env_var": "LAB_KEY"}, (URL, "LAB_KEY")),
        ({"api_base": URL, "unheard_of": {"deep": []}, "autostart": True}, (URL, None)),
        ({"api_base": "0.0.0.0:8080"}, ("http://127.0.0.1:8080", None)),
        ({"api_base": None, "autostart": True}, None),
        ({}, None),
    ],
)
def test_an_entry_says_where_its_server_is(
    path: Path, entry: dict[str, object], given: tuple[str, str | None] | None
) -> None:
    settings, _ = read_document(path, {"providers": {"llamacpp": entry}})
    assert {each.code for each in settings.problems} <= {"address.unspecified"}
    assert [(each.url, each.key_ref) for each in settings.given] == ([given] if given else [])


def test_an_entry_may_be_like_a_known_provider_under_any_name(path: Path) -> None:
    settings, _ = read_document(path, {"providers": {"ollama": LAB, "vllm": {"api_base": URL}}})
    assert settings.given == (
        Given(
            name="ollama",
            provider="llamacpp",
            url=URL,
            source="configuration",
            origin="providers.ollama.api_base",
        ),
        Given(
            name="vllm", provider="vllm", url=URL, source="configuration", origin="providers.vllm.api_base"
        ),
    )


@pytest.mark.parametrize(
    ("options", "guess"),
    [({"guess": False}, False), ({"guess": True}, True), ({"guess": 0}, True), ({}, True)],
)
def test_default_ports_are_looked_at_unless_that_is_turned_off(
    path: Path, options: dict[str, object], guess: bool
) -> None:
    assert read_document(path, {"hived": options})[0].guess is guess


@pytest.mark.parametrize(
    ("level", "read_as"), [("debug", "debug"), (1, "info"), (None, "info"), ([], "info")]
)
def test_the_log_level_is_text_or_the_default(path: Path, level: object, read_as: str) -> None:
    assert read_document(path, {"hived": {"log_level": level}})[0].log_level == read_as


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("", "", None),
        ("  ", "", None),
        ("127.0.0.1", "", "http://127.0.0.1:8080"),
        ("", "9931", "http://127.0.0.1:9931"),
        ("0.0.0.0", "9", "http://127.0.0.1:9"),
        ("::", "9", "http://[::1]:9"),
        ("::1", "9", "http://[::1]:9"),
        ("[::1]", "9", "http://[::1]:9"),
        ("fe80::1%eth0", "9", "http://[fe80::1%eth0]:9"),
        (" gpu.lan , 10.0.0.1", " 9 ", "http://gpu.lan:9"),
        ("gpu.lan", "x", None),
        ("gpu.lan", "0", None),
        ("gpu.lan", "70000", None),
        ("/run/llama.sock", "", None),
        ("a b", "9", None),
        ("me:secret@h", "9", None),
        ("\udcff", "9", None),
        (",", "", "http://127.0.0.1:8080"),
    ],
)
def test_the_variables_of_llama_server_are_read_as_it_reads_them(
    path: Path, host: str, port: str, url: str | None
) -> None:
    settings, _ = read(path, {"LLAMA_ARG_HOST": host, "LLAMA_ARG_PORT": port})
    assert [each.url for each in settings.given] == ([url] if url else [])
    assert all(each.source == "environment" for each in settings.given)


def test_the_configuration_comes_before_the_environment_and_each_says_where_it_was_read(path: Path) -> None:
    path.write_bytes(GOOD)
    settings, _ = read(path, {"LLAMA_ARG_HOST": "h", "LLAMA_ARG_PORT": "9"})
    assert [(each.name, each.origin) for each in settings.given] == [
        ("lab", "providers.lab.api_base"),
        ("llamacpp", "LLAMA_ARG_HOST and LLAMA_ARG_PORT"),
    ]


texts = st.text(st.characters(), max_size=12)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.sampled_from(["llamacpp", URL, "http://["]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["api_base", "like", "api_key_env_var", "llamacpp"]) | texts, inner, max_size=4
        )
    ),
    max_leaves=12,
)
documents = st.fixed_dictionaries({}, optional={"providers": anything, "hived": anything, "llm": anything})


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "configuration.json"


@given(document=documents | anything)
def test_no_json_whatsoever_makes_reading_fail_or_the_world_unwritable(
    scratch: Path, document: object
) -> None:
    settings, shown = read_document(scratch, document)
    for each in settings.given:
        (each.name + each.url + each.origin).encode()
    for problem in settings.problems:
        problem.message.encode()
        assert problem.message.isprintable()
    assert shown.state in ("ok", "broken")


@given(content=st.binary(max_size=60))
def test_no_bytes_whatsoever_make_reading_fail(scratch: Path, content: bytes) -> None:
    scratch.write_bytes(content)
    assert read(scratch)[1].state in ("ok", "broken")


@given(host=texts, port=texts)
def test_no_environment_makes_reading_fail(scratch: Path, host: str, port: str) -> None:
    for each in read(scratch.with_name("none"), {"LLAMA_ARG_HOST": host, "LLAMA_ARG_PORT": port})[0].given:
        each.url.encode()


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"guess": "false"}, "hived.guess"),
        ({"guess": 0}, "hived.guess"),
        ({"log_level": 7}, "hived.log_level"),
        ({"log_level": "loud"}, "hived.log_level"),
        (["guess"], "hived"),
        (None, "hived"),
    ],
)
def test_an_option_of_the_wrong_kind_is_reported_and_has_its_default(
    path: Path, options: object, where: str
) -> None:
    path.write_text(json.dumps({"hived": options}))

    settings, shown = read(path)

    assert (settings.guess, settings.log_level) == (True, "info")
    assert [problem.fields["where"] for problem in shown.problems] == [where]


def test_every_entry_that_cannot_be_used_is_shown(path: Path) -> None:
    path.write_text(json.dumps({"providers": {"one": 1, "two": 2}}))

    assert len(read(path)[1].problems) == 2


def test_of_very_many_entries_the_first_are_read_and_that_is_told(path: Path) -> None:
    entries = {f"e{n}": LAB | {"api_base": f"http://h:{n + 1}"} for n in range(MOST_ENTRIES + 1)}
    settings, shown = read_document(path, {"providers": entries})
    assert len(settings.given) == MOST_ENTRIES
    assert any(f"{len(entries)} entries" in problem.message for problem in shown.problems)


def test_of_very_many_problems_the_first_are_told_and_how_many_follow(path: Path) -> None:
    _, shown = read_document(path, {"providers": dict.fromkeys(map(str, range(MOST_ENTRIES)), 1)})
    assert len(shown.problems) == MOST_PROBLEMS + 1
    assert f"{MOST_ENTRIES - MOST_PROBLEMS} problems more" in shown.problems[-1].message


def test_of_a_very_large_library_of_hives_the_first_entries_are_read(path: Path) -> None:
    library = {f"e{n}": {"provider": "ollama", "model": "m"} for n in range(MOST_ENTRIES + 1)}
    settings, shown = read_document(path, {"provider_library": library})
    assert (len(settings.configured), shown.problems) == (MOST_ENTRIES, ())


def test_a_context_may_be_given_for_all_models_of_an_entry(path: Path) -> None:
    document = {
        "llm": {"provider": "ollama", "model": "x"},
        "providers": {"ollama": {"num_ctx": 32768}, "lab": LAB | {"num_ctx": 4096}},
    }
    settings, configuration = read_document(path, document)
    assert [
        (c.provider, c.url, c.model.model, c.model.num_ctx, c.model.origin) for c in settings.configured
    ] == [
        ("ollama", None, None, 32768, "providers.ollama"),
        ("llamacpp", URL, None, 4096, "providers.lab"),
        ("ollama", None, "x", None, "llm"),
    ]
    assert configuration.problems == ()


@pytest.mark.parametrize("number", [0, -1, 1.5, "9", True, None, 2**63, [1], {}])
def test_a_context_that_is_no_number_is_reported_and_the_server_is_watched(
    path: Path, number: object
) -> None:
    settings, configuration = read_document(path, {"providers": {"lab": LAB | {"num_ctx": number}}})
    assert urls(settings) == [("lab", URL)]
    assert settings.configured == ()
    (problem,) = configuration.problems
    assert "providers.lab.num_ctx is not a whole number of tokens" in problem.message


@pytest.mark.parametrize(
    ("environment", "hint"),
    [
        ({"OLLAMA_HOST": "0.0.0.0"}, "export OLLAMA_HOST=127.0.0.1"),
        ({"OLLAMA_HOST": "[::]:11500"}, "export OLLAMA_HOST='[::1]:11500'"),
        ({"OLLAMA_HOST": ":11500"}, "export OLLAMA_HOST=127.0.0.1:11500"),
        ({"LLAMA_ARG_HOST": "0.0.0.0", "LLAMA_ARG_PORT": "9"}, "export LLAMA_ARG_HOST=127.0.0.1"),
        ({"LLAMA_ARG_HOST": "::"}, "export LLAMA_ARG_HOST=::1"),
        (
            {"HOSTED_VLLM_API_BASE": "http://0.0.0.0:8000/v1"},
            "export HOSTED_VLLM_API_BASE=http://127.0.0.1:8000/v1",
        ),
        ({"OLLAMA_HOST": "127.0.0.1"}, None),
        ({"OLLAMA_HOST": "gpu"}, None),
        ({"LLAMA_ARG_PORT": "9"}, None),
    ],
)
def test_a_variable_to_listen_at_is_told_without_any_file_and_stops_nothing(
    path: Path, environment: dict[str, str], hint: str | None
) -> None:
    settings, configuration = read(path, environment)
    assert configuration.state == "missing"
    assert [p.hint for p in configuration.problems] == ([] if hint is None else [hint])
    assert {p.code for p in configuration.problems} <= {"address.unspecified"}
    assert len(settings.given) == 1


def test_an_entry_to_listen_at_is_told_ours_and_hives(path: Path) -> None:
    document = {
        "llm": {"provider": "ollama", "api_base": "http://0.0.0.0:11434"},
        "providers": {"lab": LAB | {"api_base": "[::]:8080"}},
    }
    settings, configuration = read_document(path, document)
    assert [p.code for p in configuration.problems] == ["address.unspecified"] * 2
    assert urls(settings) == [("lab", "http://[::1]:8080"), ("ollama", "http://127.0.0.1:11434")]
