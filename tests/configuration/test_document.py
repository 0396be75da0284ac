"""Of the configuration no more is decoded than is read, and what is read is what the file says."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hived.configuration import document as module
from hived.configuration.document import MOST_ENTRIES, SECTIONS, TABLES, decode_document

READ = ("hived", *SECTIONS, *TABLES)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*READ, "notes"]), ANYTHING))
def test_what_is_read_is_what_json_says(document: dict[str, object]) -> None:
    raw = json.dumps(document).encode()
    said = decode_document(raw)
    assert isinstance(said, dict)
    expected = json.loads(raw)
    assert [(name, repr(said.get(name))) for name in READ] == [(n, repr(expected.get(n))) for n in READ]


def test_what_is_not_read_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []

    def decode(raw: msgspec.Raw) -> object:
        decoded.append(bytes(raw))
        value: object = msgspec.json.decode(raw)
        return value

    monkeypatch.setattr(module, "_decode", decode)
    names = [f"e{n}" for n in range(MOST_ENTRIES + 1)]
    said = decode_document(json.dumps({"notes": [1, 2], "providers": {name: {} for name in names}}).encode())
    assert decoded == [b"{}"] * MOST_ENTRIES
    assert said == {"providers": {name: {} for name in names[:-1]} | {names[-1]: None}}


@pytest.mark.parametrize("value", ["NaN", "-Infinity", r'"\ud800"', "1e999"])
def test_what_pythons_own_writer_writes_is_read(value: str) -> None:
    for name in ("notes", "llm"):
        said = decode_document(
            b'{"%s": {"a": %s}, "hived": {"guess": false}}' % (name.encode(), value.encode())
        )
        assert isinstance(said, dict)
        assert said["hived"] == {"guess": False}


@pytest.mark.parametrize("broken", ['{"a" 1}', "[1 2]", "tru", "01", '"\\x"', '{"b": 1,}', '"\n"', "[1"])
def test_what_is_broken_is_seen_where_nobody_reads(broken: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        decode_document(b'{"notes": %s, "hived": {}}' % broken.encode())
