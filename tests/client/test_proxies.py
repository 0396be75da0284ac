"""Proxies in the caller's environment: by httpx's rules, which httpx itself is asked for."""

from __future__ import annotations

import os
from unittest.mock import patch

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived_client.doors import ask
from hived_client.doors.proxies import hijacked, hijacked_endpoint
from tests.client.worlds import endpoint

URLS = [
    "http://127.0.0.1:11434",
    "http://127.0.0.1",
    "http://localhost:8000/v1",
    "http://[::1]:8080/v1",
    "https://gpu.lan:443",
    "http://gpu.lan:8000/v1",
    "http://10.0.0.7:8000",
]
ENTRIES = [
    "",
    " ",
    "*",
    "localhost",
    "LOCALHOST",
    "127.0.0.1",
    "127.0.0.0/8",
    "::1",
    ".lan",
    "lan",
    "gpu.lan",
    "pu.lan",
    "*.lan",
    "gpu.lan:8000",
    "localhost:8000",
    "127.0.0.1:11434",
    "http://127.0.0.1",
    "https://gpu.lan",
    "all://10.0.0.7:8000",
    "10.0.0.7",
]
PROXIES = ["", "http://proxy:3128", "proxy:3128", "http://me:pass@proxy:3128"]
variables = st.sampled_from(
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "Http_Proxy"]
)
environments = st.builds(
    lambda proxies, names, entries, cgi: (
        proxies | {name: ",".join(entries) for name in names} | ({"REQUEST_METHOD": "GET"} if cgi else {})
    ),
    st.dictionaries(variables, st.sampled_from(PROXIES), max_size=3),
    st.sets(st.sampled_from(["no_proxy", "NO_PROXY"]), max_size=2),
    st.lists(st.sampled_from(ENTRIES), max_size=3),
    st.booleans(),
)


def httpx_takes_a_proxy(url: str, environment: dict[str, str]) -> bool:
    with patch.dict(os.environ, environment, clear=True), httpx.Client(verify=False) as client:
        return client._transport_for_url(httpx.URL(url)) is not client._transport


@given(environments, st.sampled_from(URLS))
def test_a_call_is_hijacked_where_httpx_takes_a_proxy(environment: dict[str, str], url: str) -> None:
    assert (hijacked(url, environment) is not None) is httpx_takes_a_proxy(url, environment)


@pytest.mark.parametrize(
    ("environment", "hint"),
    [
        ({"HTTP_PROXY": "http://p"}, "export NO_PROXY=localhost,127.0.0.1,::1"),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "a.b, .c"}, "export NO_PROXY=a.b,.c,localhost,127.0.0.1,::1"),
        ({"HTTP_PROXY": "http://p", "no_proxy": "x"}, "export no_proxy=x,localhost,127.0.0.1,::1"),
        (
            {"all_proxy": "socks5://p", "NO_PROXY": "$(x)"},
            "export NO_PROXY='$(x),localhost,127.0.0.1,::1'",
        ),
    ],
)
@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"])
def test_the_hint_keeps_what_is_there_and_mends_it(environment: dict[str, str], hint: str, url: str) -> None:
    found = hijacked(url, environment)
    assert found is not None
    assert found.hint == hint
    name, _, value = hint.removeprefix("export ").partition("=")
    assert hijacked(url, environment | {name: value.strip("'")}) is None


def test_another_host_is_excepted_by_its_name() -> None:
    found = hijacked("http://gpu.lan:8000", {"http_proxy": "p"})
    assert found is not None
    assert found.hint == "export NO_PROXY=localhost,127.0.0.1,::1,gpu.lan"


@pytest.mark.parametrize(
    "proxy",
    [
        "http://me:secret@p:1",
        "me:secret@p:1",
        "http://me:se/secret@p:1/x?y=1",
        "http://me:a@secret@p:1",
        "socks5://secret@p:1",
    ],
)
def test_no_password_of_a_proxy_is_shown(proxy: str) -> None:
    found = hijacked("http://127.0.0.1:1", {"HTTP_PROXY": proxy})
    assert found is not None
    assert "secret" not in str(found)
    assert "://p:1" in found.message


def test_one_endpoint_is_told_of_and_one_that_can_be_called_first() -> None:
    far = endpoint("far", "vllm", "x", url="https://far.example", locality="internet")
    down = endpoint("down", "vllm", "x", url="http://127.0.0.1:1", state="down")
    ready = endpoint("ready", "vllm", "x", url="http://127.0.0.1:2")
    environment = {"ALL_PROXY": "http://p"}
    found = hijacked_endpoint((far, down, ready), environment)
    assert found is not None
    assert found.fields["url"] == "http://127.0.0.1:2"
    assert hijacked_endpoint((far,), environment) is None
    assert hijacked_endpoint((down, ready), {}) is None


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"])
def test_a_variable_is_noticed_in_any_kind_of_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ask._VARIABLES:
        monkeypatch.delenv(each, raising=False)
    url = "https://127.0.0.1:1" if name.startswith("https") else "http://127.0.0.1:1"
    assert ask._hijacked(url, os.environ) is None
    assert ask._hijacked(url, {"PATH": "x"}) is None
    assert ask._hijacked(url, {}) is None
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(name, "http://p")
    for _ in range(2):
        assert ask._hijacked(url, os.environ) == hijacked(url, {name: "http://p"})
        assert ask._hijacked(url, {name: "http://p"}) is not None
    monkeypatch.setenv(name, "http://q")
    changed = ask._hijacked(url, os.environ)
    assert changed is not None
    assert "http://q" in changed.message
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert ask._hijacked(url, os.environ) is None
