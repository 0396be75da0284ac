"""What the same questions cost by asking the server directly, which is what programs do without hived."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import httpx
import msgspec

from hived.decisions.addresses import host_and_port


def time_of(act: Callable[[], object], times: int) -> float:
    """Return the median seconds of one act, after one that is not counted."""
    act()
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        spent.append(time.perf_counter() - began)
    return median(spent)


def ask_with_new_client(url: str) -> bool:
    """Ask a server for its models as a program does that has just begun; tell whether it answered."""
    try:
        with httpx.Client(trust_env=False, timeout=5.0) as client:
            return client.get(f"{url}/v1/models").status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def kept_connection(url: str) -> Iterator[Callable[[], object]]:
    """Give an act that asks a server for its models on a connection that stays open."""
    connection = http.client.HTTPConnection(*host_and_port(url), timeout=5.0)

    def ask() -> object:
        connection.request("GET", "/v1/models")
        return msgspec.json.decode(connection.getresponse().read())

    try:
        yield ask
    finally:
        connection.close()


def stream_chat(api_base: str, key: str | None, model: str, words: str) -> Iterator[str]:
    """Yield the text of a streamed completion as it comes. Raises httpx.HTTPError."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {
        "model": model,
        "stream": True,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": words}],
    }
    with (
        httpx.Client(trust_env=False, timeout=httpx.Timeout(60.0, connect=5.0)) as client,
        client.stream("POST", f"{api_base}/chat/completions", json=body, headers=headers) as response,
    ):
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                yield from _texts(line.removeprefix("data: "))


def _texts(data: str) -> Iterator[str]:
    chunk = msgspec.json.decode(data)
    for choice in chunk.get("choices", ()):
        delta = choice.get("delta", {})
        text = delta.get("content") or delta.get("reasoning_content")
        if text:
            yield text
