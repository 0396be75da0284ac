"""An address that a user wrote is read for what it means, or refused with a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived.decisions.addresses import BadAddress, host_and_port, place, read_url
from hived_client.vocabulary.localities import locality_of


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080"),
        ("http://h/proxy/v1", "http://h/proxy"),
        ("  http://h:1\n", "http://h:1"),
        ("h:1", "http://h:1"),
        ("localhost:8080", "http://localhost:8080"),
        ("h", "http://h"),
        ("https://h", "https://h"),
        ("HTTP://LAB.Example:1", "http://lab.example:1"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("http://0:8080", "http://0:8080"),
        ("http://:8080", "http://127.0.0.1:8080"),
        ("http://[::]:8080", "http://[::1]:8080"),
        ("http://[0:0:0:0:0:0:0:0]:8080", "http://[::1]:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("http://[fe80::1%eth0]:8080", "http://[fe80::1%eth0]:8080"),
        ("http://h:1/v1?x=1#y", "http://h:1"),
        ("http://bücher.example:1", "http://bücher.example:1"),
    ],
)
def test_an_address_is_read_as_the_root_to_connect_to(written: str, url: str) -> None:
    assert read_url(written) == url


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("ftp://h", "ftp://"),
        ("unix:///run/x.sock", "unix://"),
        ("file:///etc/passwd", "file://"),
        ("http://me:secret@h:1", "api_key_env_var"),
        ("http://me@h:1", "api_key_env_var"),
        ("me:secret@h", "api_key_env_var"),
        ("http://:secret@h", "api_key_env_var"),
        ("http://h:99999", "port"),
        ("http://h:-1", "port"),
        ("http://h:x", "port"),
        ("http://h:0", "port 0"),
        ("http://[::1", "can be read"),
        ("http://[nonsense]:1", "can be read"),
        ("http://ex\u2100mple", "can be read"),
        ("http://a b:1", "space"),
        ("http://a\x1b[2J:1", "shown"),
        ("http://a\nb", "shown"),
        ("http://\ud800:1", "shown"),
        ("http://\u202eh", "shown"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_and_no_secret_is_quoted(written: str, why: str) -> None:
    with pytest.raises(BadAddress) as refused:
        read_url(written)
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)


@given(st.text(max_size=40) | st.text("[]:%@/.h1 ", max_size=20).map("http://{}".format))
def test_any_text_is_read_twice_alike_or_refused(written: str) -> None:
    try:
        url = read_url(written)
    except BadAddress:
        return
    url.encode()
    assert url.startswith(("http://", "https://"))
    locality_of(url)
    host, port = host_and_port(url)
    assert host
    assert 0 < port <= 65535
    assert place(read_url(url)) == place(url)


@pytest.mark.parametrize(
    ("url", "locality"),
    [
        ("http://127.0.0.1:1", "device"),
        ("http://127.8.9.10:1", "device"),
        ("http://localhost:1", "device"),
        ("http://model.localhost:1", None),
        ("http://[::1]:1", "device"),
        ("http://10.0.0.7:1", "lan"),
        ("http://192.168.1.1", "lan"),
        ("http://172.31.0.1", "lan"),
        ("http://169.254.1.1", "lan"),
        ("http://[fe80::1%eth0]:1", "lan"),
        ("http://[fd00::1]:1", "lan"),
        ("http://gpu.local:1", "lan"),
        ("http://gpu.home.arpa", "lan"),
        ("http://8.8.8.8", "internet"),
        ("http://172.32.0.1", "internet"),
        ("https://[2606:4700::1]", "internet"),
        ("https://api.example.com", None),
        ("http://gpu-box:1", None),
        ("http://localhost.example.com", None),
        ("http://127.0.0.1.example.com", None),
        ("http://local", None),
        ("", None),
        ("http://[nonsense]:1", None),
    ],
)
def test_an_address_says_where_it_is_as_far_as_it_can(url: str, locality: str | None) -> None:
    assert locality_of(url) == locality


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://localhost:1", "http://127.0.0.1:1", True),
        ("http://LOCALHOST:1", "http://localhost:1", True),
        ("http://127.0.0.1:1", "http://127.0.0.1:1/v1", True),
        ("http://h", "http://h:80", True),
        ("https://h", "https://h:443", True),
        ("http://h", "https://h", False),
        ("http://h:1", "http://h:2", False),
        ("http://[::1]:1", "http://127.0.0.1:1", False),
    ],
)
def test_two_spellings_of_one_place_are_one_place(one: str, other: str, same: bool) -> None:
    assert (place(one) == place(other)) is same
