"""A port proves nothing: what answers is asked what it seems to be, once, without a key."""

from __future__ import annotations

import msgspec
import pytest

from hived.providers.fields import MOST_ITEMS
from hived.providers.fingerprint import is_llamacpp, openai_models
from hived.providers.http import Answer


def answer(body: object, status: int = 200, **headers: str) -> Answer:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Answer(status=status, headers=headers, body=raw)


@pytest.mark.parametrize(
    ("server", "known"),
    [
        ("llama.cpp", True),
        (" LLAMA.CPP ", True),
        ("llama.cpp/1", False),
        ("uvicorn", False),
        ("", False),
    ],
)
def test_llamacpp_names_itself_in_every_answer(server: str, known: bool) -> None:
    assert is_llamacpp(answer({}, 503, server=server)) is known
    assert not is_llamacpp(answer({}))


@pytest.mark.parametrize(
    ("body", "status", "names"),
    [
        ({"object": "list", "data": [{"id": "a"}, {"id": "b"}, {"id": "a"}]}, 200, ["a", "b"]),
        ({"object": "list", "data": []}, 200, []),
        ({"object": "list", "data": [{"id": 5}, {"id": "\n"}, "x", None, {}]}, 200, []),
        ({"object": "list", "data": [{"id": f"m{n}"} for n in range(MOST_ITEMS + 9)]}, 200, MOST_ITEMS),
        ({"object": "list", "data": {"id": "a"}}, 200, None),
        ({"object": "list"}, 200, None),
        ({"data": [{"id": "a"}]}, 200, None),
        ({"error": "Unexpected endpoint"}, 200, None),
        ({"object": "list", "data": [{"id": "a"}]}, 401, None),
        ([], 200, None),
        (b"<html>", 200, None),
        (b"", 200, None),
    ],
)
def test_only_a_listing_is_one(body: object, status: int, names: list[str] | int | None) -> None:
    models = openai_models(answer(body, status))
    found = None if models is None else [model.name for model in models]
    assert (len(found or ()) if isinstance(names, int) else found) == names
