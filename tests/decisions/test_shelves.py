"""What lies on disk is shown once, where its server would most likely be started."""

from __future__ import annotations

import pytest

from hived.decisions.shelves import keeper_of_shelf
from hived_client.vocabulary.world import Endpoint, Source


def at(name: str, url: str, source: Source = "default", provider: str = "llamacpp") -> Endpoint:
    return Endpoint(name=name, provider=provider, url=url, source=source)


GUESSES = (at("llamacpp", "http://127.0.0.1:8080"), at("llamacpp-9931", "http://127.0.0.1:9931"))


@pytest.mark.parametrize(
    ("endpoints", "keeper"),
    [
        ((), None),
        (GUESSES, "llamacpp"),
        ((at("lab", "http://127.0.0.1:9000", "configuration"), *GUESSES), "llamacpp"),
        ((at("lab", "http://127.0.0.1:9000", "configuration"),), "lab"),
        ((at("lab", "http://10.0.0.7:8080", "configuration"),), None),
        ((at("llamacpp", "http://10.0.0.7:8080", "configuration"), *GUESSES[1:]), "llamacpp-9931"),
        (
            (at("llamacpp", "http://127.0.0.1:9", "started"), at("llamacpp-8080", "http://[::1]:8080")),
            "llamacpp-8080",
        ),
        ((at("vllm", "http://127.0.0.1:8000", provider="vllm"),), None),
    ],
)
def test_one_endpoint_on_this_device_keeps_the_shelf(
    endpoints: tuple[Endpoint, ...], keeper: str | None
) -> None:
    assert keeper_of_shelf(endpoints, "llamacpp") == keeper
