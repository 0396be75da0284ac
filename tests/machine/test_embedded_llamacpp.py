from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from hived.machine.gguf_files import check_model
from hived.machine.llamacpp import alias_of, command, find_program
from hived.machine.llamacpp_log import why_it_ended
from hived.machine.log_tail import read_tail
from hived.machine.ports import free_port
from hived.machine.processes import find_listener, identify, reap, spawn_detached, stop
from tests.servers.llamacpp import ALIAS, LlamaCpp, child_environment, speaking_model

pytest.importorskip("xllamacpp")

QUESTION = {"messages": [{"role": "user", "content": "Who are you?"}]}


def ask(
    server: LlamaCpp, path: str, body: object = None, **headers: str
) -> tuple[int, Any, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60.0)
    try:
        connection.request(
            "GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers
        )
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null"), answer.headers
    finally:
        connection.close()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "hived.machine.embedded_llamacpp", *words],
        capture_output=True, text=True, timeout=60, env=child_environment(), check=False,
    )  # fmt: skip


def test_it_is_the_real_server_with_its_alias_and_metrics_and_no_page() -> None:
    with LlamaCpp(context=1024) as server:
        status, models, headers = ask(server, "/v1/models")
        assert (status, headers["Server"]) == (200, "llama.cpp")
        assert [(one["id"], one["meta"]["n_ctx"]) for one in models["data"]] == [(ALIAS, 512)]
        assert server.get_status("/metrics") == 200
        assert server.get_status("/") == 404
        assert f"listening on {server.url}" in server.log.read_text()


def test_a_web_page_of_a_stranger_may_not_read_the_answers() -> None:
    with LlamaCpp() as server:
        allowed = "Access-Control-Allow-Origin"
        assert ask(server, "/v1/models", Origin="http://evil.example")[2][allowed] is None
        assert (
            ask(server, "/v1/models", Origin="http://localhost:3000")[2][allowed] == "http://localhost:3000"
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_and_well_when_it_is_told_to(number: signal.Signals) -> None:
    with LlamaCpp() as server:
        while "listening on" not in server.log.read_text():  # the handlers are there from this line on
            time.sleep(0.01)
        assert server.kill(number) == 0


def test_a_signal_ends_it_while_the_model_loads() -> None:
    with LlamaCpp(wait=False) as server:
        assert server.kill(signal.SIGTERM) in (0, -signal.SIGTERM)


@pytest.mark.parametrize("body", [b"GGUF", b"nonsense"])
def test_a_model_that_cannot_be_loaded_is_one_line_and_status_1(tmp_path: Path, body: bytes) -> None:
    path, log = tmp_path / "bad.gguf", tmp_path / "log"
    path.write_bytes(body)
    done = run("--model", str(path), "--port", str(free_port()))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"\nhived-llamacpp: failed to load model {path}\n" in done.stderr
    log.write_text(done.stderr)
    assert str(path) in why_it_ended(read_tail(log))


def test_a_taken_port_is_one_line_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--model", str(speaking_model()), "--port", str(port))
    assert done.returncode == 1
    assert f"\nhived-llamacpp: port {port} of 127.0.0.1 is taken\n" in done.stderr


def test_a_key_from_a_file_is_wanted_everywhere_but_at_health(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("\nfirst\nsecond\n")
    with LlamaCpp(extra=("--api-key-file", str(tmp_path / "keys"))) as server:
        assert server.get_status("/health") == 200
        assert server.get_status("/v1/models") == 401
        assert ask(server, "/v1/models", Authorization="Bearer second")[0] == 200


def test_a_host_that_is_not_this_machine_is_one_line_and_status_1() -> None:
    done = run("--model", str(speaking_model()), "--host", "203.0.113.9", "--port", "8080")
    assert done.returncode == 1
    assert "\nhived-llamacpp: 203.0.113.9 is no address of this machine" in done.stderr


@pytest.mark.parametrize("text", ["", None])
def test_no_key_is_never_taken_for_an_open_door(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "keys").write_text(text)
    done = run(
        "--model", str(speaking_model()), "--port", str(free_port()), "--api-key-file", str(tmp_path / "keys")
    )
    assert done.returncode == 1
    assert f"hived-llamacpp: the key file cannot be used: {'no key' if text == '' else ''}" in done.stderr


def test_it_sleeps_and_wakes_for_a_question() -> None:
    with LlamaCpp(extra=("--sleep-idle-seconds", "1")) as server:
        end = time.monotonic() + 60
        while not ask(server, "/props")[1]["is_sleeping"]:
            assert time.monotonic() < end, "it never slept"
            time.sleep(0.05)
        assert server.get_status("/health") == 200
        assert ask(server, "/v1/chat/completions", QUESTION)[0] == 200


def test_a_held_server_is_silent_and_answers_when_it_goes_on() -> None:
    with LlamaCpp() as server:
        server.stop_process()
        assert server.get_status("/health", timeout=0.1) is None
        server.continue_process()
        server.wait_ready()


def test_a_killed_server_comes_back_on_its_port() -> None:
    with LlamaCpp() as server:
        port, pid = server.port, server.pid
        assert server.kill() == -signal.SIGKILL
        assert server.get_status("/health") is None
        server.restart()
        assert (server.port, server.get_status("/health")) == (port, 200)
        assert server.pid != pid


def test_a_word_that_it_does_not_know_is_a_usage_error() -> None:
    done = run("--model", "m", "--tools", "all")
    assert done.returncode == 2
    assert "--tools" in done.stderr


@pytest.mark.anyio
async def test_it_is_started_found_and_stopped_as_the_daemon_does(tmp_path: Path) -> None:
    model, port, log = speaking_model(), free_port(), tmp_path / "log"
    check_model(model)
    program = find_program()
    assert program is not None
    argv = command(program, model=str(model), port=port, alias=alias_of(model), context=1024)
    process = spawn_detached(argv, log=log, environment=child_environment())
    try:
        identity = identify(process.pid)
        assert identity is not None
        with anyio.fail_after(60.0):
            while "listening on" not in log.read_text():  # noqa: ASYNC110
                await anyio.sleep(0.01)  # between two looks at the log
        assert await anyio.to_thread.run_sync(find_listener, "127.0.0.1", port) == process.pid
        with anyio.fail_after(60.0):
            assert await stop(identity) == "terminated"
            assert await reap(process) == 0
    finally:
        process.kill()
        process.wait()
