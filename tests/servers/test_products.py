"""The signatures keep the traps of the real products: imitations, unknown paths, GETs that do harm."""

from __future__ import annotations

import http.client
import json

import pytest

from tests.servers.products import PRODUCTS, Product


def ask(server: Product, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60.0)
    try:
        connection.request("GET", path, None, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["LocalAI", "Lemonade", "Ollama"])
def test_these_three_cannot_be_told_apart_by_what_ollama_says(name: str) -> None:
    with Product(name) as server:
        assert ask(server, "/") == (200, "Ollama is running")
        assert json.loads(ask(server, "/api/version")[1]).keys() == {"version"}


@pytest.mark.parametrize("name", ["LocalAI", "Docker Model Runner", "vLLM", "GPUStack"])
def test_a_version_proves_nothing(name: str) -> None:
    with Product(name) as server:
        assert "version" in json.loads(ask(server, "/version")[1])


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("LM Studio", 200, '{"error":"Unexpected endpoint or method. (GET /x)"}'),
        ("vLLM", 404, '{"detail":"Not Found"}'),
        ("LiteLLM", 404, '{"detail":"Not Found"}'),
        ("Ollama", 404, "404 page not found"),
        ("mlx_lm", 404, "Not Found"),
    ],
)
def test_each_has_its_own_word_for_a_path_that_it_does_not_know(name: str, status: int, body: str) -> None:
    with Product(name) as server:
        assert ask(server, "/nope") == (status, body)


@pytest.mark.parametrize(
    ("name", "path"), [("llama-swap", "/unload"), ("llama-swap", "/upstream/m/"), ("LiteLLM", "/health")]
)
def test_harm_is_noticed(name: str, path: str) -> None:
    with Product(name) as server:
        ask(server, "/v1/models")
        assert server.harm == []
        ask(server, path)
        assert server.harm == [path]


def test_a_key_or_an_origin_is_noticed() -> None:
    with Product("vLLM") as server:
        ask(server, "/version")
        assert server.keys == []
        ask(server, "/version", Authorization="Bearer k", Origin="http://x")
        assert server.keys == ["Bearer k", "http://x"]


def test_every_product_lists_models_but_those_that_hide_them() -> None:
    hiding = {name for name, signature in PRODUCTS.items() if "/v1/models" not in signature.answers}
    assert hiding == {"SGLang of late", "a FastAPI application", ""}
