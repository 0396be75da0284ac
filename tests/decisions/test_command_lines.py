"""What a process is, by its name and its words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hived.decisions.command_lines import forwarder, is_vllm, vllm_port


@pytest.mark.parametrize(
    ("line", "port"),
    [
        ("vllm serve m", 8000),
        ("/venv/bin/python3.12 /venv/bin/vllm serve m --port 8001", 8001),
        ("/venv/bin/python /venv/bin/vllm serve m --port=8002 --host 127.0.0.1", 8002),
        ("python3 -m vllm.entrypoints.openai.api_server --model m", 8000),
        ("python3 -u -X dev -m vllm.entrypoints.openai.api_server --model m --port 9000", 9000),
        ("python -m vllm.entrypoints.cli.main serve m --port 1 --port 2", 2),
        ("vllm serve m --config c.yaml", None),
        ("vllm serve m --config c.yaml --port 8003", 8003),
        ("vllm serve m --uds /tmp/s", None),
        ("vllm serve m --port nonsense", None),
        ("vllm serve m --port 99999", None),
        ("vllm chat --port 8000", None),
        ("vllm", None),
        ("grep vllm serve", None),
        ("less vllm serve", None),
        ("python3 -m http.server 8000", None),
        ("python3 script.py vllm serve m", None),
        ("python3 -m", None),
        ("python3", None),
        ("", None),
    ],
)
def test_the_port_that_a_vllm_server_will_listen_at(line: str, port: int | None) -> None:
    assert vllm_port(line.split()) == port


def test_a_shell_that_was_told_to_run_one_is_not_one() -> None:
    assert not is_vllm(["bash", "-c", "vllm serve m"])
    assert is_vllm(["vllm", "serve", "m", "--config", "c.yaml"])


@given(st.lists(st.text(max_size=6) | st.sampled_from(["vllm", "serve", "python", "-m", "--port", "-X"])))
def test_no_command_line_is_too_odd(words: list[str]) -> None:
    port = vllm_port(words)
    assert port is None or 0 < port < 65_536
    assert port is None or is_vllm(words)


@pytest.mark.parametrize("program", ["ssh", "sshd", "socat", "kubectl", "SSH.exe", "nginx", "cloudflared"])
def test_what_hands_connections_on_is_known_by_name(program: str) -> None:
    assert forwarder(program) == program


@pytest.mark.parametrize(
    "program", ["", "ollama", "python3", "docker-proxy", "rootlessport", "slirp4netns", "gvproxy", "sshfs"]
)
def test_what_serves_here_or_leads_into_a_container_does_not(program: str) -> None:
    assert forwarder(program) == ""
