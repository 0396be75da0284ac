"""OLLAMA_HOST is read as Ollama reads it, and then as an address to connect to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived.decisions.addresses import BadAddress, read_url
from hived.decisions.ollama_host import read_ollama_host, written_host

# The vectors of Ollama's own test, and what follows from its code.
VECTORS = [
    ("", "http://127.0.0.1:11434"),
    ("1.2.3.4", "http://1.2.3.4:11434"),
    (":1234", "http://:1234"),
    ("1.2.3.4:1234", "http://1.2.3.4:1234"),
    ("example.com", "http://example.com:11434"),
    ("example.com:1234", "http://example.com:1234"),
    (":0", "http://:0"),
    (":66000", "http://:11434"),
    (":-1", "http://:11434"),
    ("[::1]", "http://[::1]:11434"),
    ("::1", "http://[::1]:11434"),
    ("[::1]:1337", "http://[::1]:1337"),
    ("[::]", "http://[::]:11434"),
    ("::", "http://[::]:11434"),
    ("0.0.0.0", "http://0.0.0.0:11434"),
    (" 1.2.3.4 ", "http://1.2.3.4:11434"),
    ('"1.2.3.4"', "http://1.2.3.4:11434"),
    ("'1.2.3.4'", "http://1.2.3.4:11434"),
    (" \" 1.2.3.4 ' ", "http://1.2.3.4:11434"),
    ("http://1.2.3.4", "http://1.2.3.4:80"),
    ("https://1.2.3.4", "https://1.2.3.4:443"),
    ("https://1.2.3.4:4321", "https://1.2.3.4:4321"),
    ("https://example.com/ollama", "https://example.com:443/ollama"),
    ("https://example.com/ollama/", "https://example.com:443/ollama"),
    ("http://example.com:1/", "http://example.com:1"),
    ("ollama.com", "https://ollama.com:443"),
    ("http://ollama.com", "http://ollama.com:80"),
    ("ollama://h", "ollama://h:11434"),
    ("http://:66000", "http://:80"),
    ("h:", "http://h:11434"),
    ("h:x", "http://h:11434"),
    ("h:+80", "http://h:80"),
    ("h:80.5", "http://h:11434"),
    ("[0:0:0:0:0:0:0:1]", "http://[::1]:11434"),
    ("http://", "http://127.0.0.1:80"),
]

TO_CONNECT = [
    ("", "http://127.0.0.1:11434"),
    (":1234", "http://127.0.0.1:1234"),
    ("0.0.0.0", "http://127.0.0.1:11434"),
    ("0.0.0.0:1", "http://127.0.0.1:1"),
    ("http://0.0.0.0", "http://127.0.0.1:80"),
    ("::", "http://[::1]:11434"),
    ("[::]:1", "http://[::1]:1"),
    ("gpu-box:11434", "http://gpu-box:11434"),
    ("https://example.com/ollama", "https://example.com:443/ollama"),
    ("ollama.com", "https://ollama.com:443"),
]


@pytest.mark.parametrize(("value", "url"), VECTORS)
def test_a_value_is_read_as_ollama_reads_it(value: str, url: str) -> None:
    assert written_host(value) == url


@pytest.mark.parametrize(("value", "url"), TO_CONNECT)
def test_an_address_to_bind_to_becomes_one_to_connect_to(value: str, url: str) -> None:
    assert read_ollama_host(value) == url


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (":0", "port 0"),
        ("unix:///run/ollama.sock", "unix://"),
        ("me:secret@gpu-box", "password"),
        ("http://me:secret@gpu-box:1", "password"),
        ("a b", "space"),
        ("h\x1b[2J", "shown"),
        ("1:2:3", "can be read"),
        ("[h", "can be read"),
    ],
)
def test_what_nothing_can_connect_to_is_refused_and_no_secret_is_quoted(value: str, why: str) -> None:
    with pytest.raises(BadAddress) as refused:
        read_ollama_host(value)
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)


@given(st.text(max_size=40) | st.text("[]:%@/.h1+- \"'", max_size=20))
def test_any_text_is_an_address_or_refused(value: str) -> None:
    try:
        url = read_ollama_host(value)
    except BadAddress:
        return
    assert url.startswith(("http://", "https://"))
    assert read_url(url) == url
