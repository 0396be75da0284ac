from __future__ import annotations

import importlib.util
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hived.machine.gguf_files import check_model
from hived.machine.llamacpp import (
    Program,
    alias_of,
    command,
    environment,
    find_program,
    supported_flags,
)
from hived.machine.llamacpp_log import why_it_ended
from hived.machine.log_tail import read_tail
from hived.machine.ports import free_port, is_port_free
from hived.machine.recipes import Wanted
from hived.machine.start_faults import fault_of
from hived.machine.start_llamacpp import LlamaCppRecipe
from hived_client.errors import StartFailed

EMBEDDED = Program(kind="embedded", argv=("python", "-m", "embedded"))


def gguf(*pairs: tuple[str, str]) -> bytes:
    """Write the beginning of a GGUF file: the header and pairs of strings."""
    body = b"".join(_string(key) + struct.pack("<I", 8) + _string(value) for key, value in pairs)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + body


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def a_program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho run >> '{folder}/runs'\ncat <<'END' >&2\n{text}\nEND\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def only_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, apart from cat."""
    (tmp_path / "cat").symlink_to("/bin/cat")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_users_own_server_comes_first(only_here: Path) -> None:
    a_program(only_here, "llama", "--model FNAME")
    path = a_program(only_here, "llama-server", "")
    assert find_program() == Program(kind="llama-server", argv=(str(path),))


def test_the_umbrella_program_is_used_if_it_serves(only_here: Path) -> None:
    path = a_program(only_here, "llama", "-m,    --model FNAME      model path to load")
    assert find_program() == Program(kind="llama-server", argv=(str(path), "serve"))


def test_another_program_called_llama_is_not(only_here: Path) -> None:
    a_program(only_here, "llama", "usage: llama [--spit]")
    found = find_program()
    assert found is None or found.kind == "embedded"


def test_the_server_in_a_wheel_comes_last(only_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    argv = (sys.executable, "-P", "-m", "hived.machine.embedded_llamacpp")
    assert find_program() == Program(kind="embedded", argv=argv)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert find_program() is None


HELP = """
-m,    --model FNAME      model path
--metrics                 enable prometheus (see --metrics-like)
--offline, --no-offline   offline
--webui, --no-webui       deprecated
--cors-origins ORIGINS    list
"""


def test_a_program_is_asked_for_its_flags_once(only_here: Path) -> None:
    program = Program(kind="llama-server", argv=(str(a_program(only_here, "llama-server", HELP)),))
    for _ in range(3):
        flags = supported_flags(program)
    assert {"--model", "--metrics", "--offline", "--no-webui", "--cors-origins"} <= flags
    assert "--no-ui" not in flags
    assert (only_here / "runs").read_text() == "run\n"


@pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
def test_it_listens_at_the_loopback_address_that_it_is_configured_at(only_here: Path, host: str) -> None:
    try:
        port = free_port(host)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    a_program(only_here, "llama-server", "")
    model = only_here / "m.gguf"
    model.write_bytes(gguf())
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    launch = LlamaCppRecipe().prepare(Wanted(model=str(model), url=url), {})
    assert launch.url == url
    assert launch.argv[launch.argv.index("--host") + 1] == host


@pytest.mark.parametrize("argv", [("/nonexistent/llama-server",), ("/",)])
def test_a_program_that_cannot_be_asked_supports_nothing(argv: tuple[str, ...]) -> None:
    assert supported_flags(Program(kind="llama-server", argv=argv)) == frozenset()


def test_a_command_has_only_what_the_program_knows(only_here: Path) -> None:
    program = Program(kind="llama-server", argv=(str(a_program(only_here, "llama-server", HELP)),))
    argv = command(program, model="/m/a.gguf", port=8080, alias="a", context=4096, extra=("--mlock",))
    assert " ".join(argv[1:]) == (
        "--model /m/a.gguf --host 127.0.0.1 --port 8080 --alias a --ctx-size 4096"
        " --metrics --offline --no-webui --cors-origins localhost --mlock"
    )


def test_the_command_of_the_embedded_server() -> None:
    argv = command(EMBEDDED, model="/m/a b.gguf", port=1, alias="a b")
    own = ["--model", "/m/a b.gguf", "--host", "127.0.0.1", "--port", "1", "--alias", "a b", "--metrics"]
    assert argv == [*EMBEDDED.argv, *own]


@pytest.mark.parametrize(
    "word",
    [
        *("--api-key", "--api-key=s", "--api_key", "--api_key=s", "--webui_mcp-proxy", "--ctx_size"),
        *("--tools", "--agent", "--props", "--host", "-m"),
    ],
)
def test_words_that_give_power_or_secrets_away_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="is not passed on") as caught:
        command(EMBEDDED, model="/m", port=1, alias="a", extra=(word, "value"))
    assert "=s" not in str(caught.value)


def test_nothing_of_ours_and_no_hidden_flag_reaches_the_server() -> None:
    kept = {"PATH": "/bin", "HTTPS_PROXY": "http://p", "LLAMA_CACHE": "/c", "HIVE_HOME": "/h"}
    dropped = (
        "LLAMA_ARG_HOST LLAMA_API_KEY NOTIFY_SOCKET WATCHDOG_USEC WATCHDOG_PID LISTEN_FDS HIVED_NOTIFY_FD"
    )
    assert environment(kept | dict.fromkeys(dropped.split(), "1")) == kept | {"GGML_NO_BACKTRACE": "1"}
    assert environment({"GGML_NO_BACKTRACE": "0"}) == {"GGML_NO_BACKTRACE": "0"}


@pytest.mark.parametrize(
    ("path", "alias"),
    [
        ("/m/Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B-Q4_K_M"),
        ("/m/big-00001-of-00003.gguf", "big"),
        ("/m/UPPER.GGUF", "UPPER"),
        ("/m/no-suffix", "no-suffix"),
        ("/m/a,b.gguf", "a-b"),
        ("/m/--tools.gguf", "tools"),
        ("/m/.gguf", "model"),
        ("é ü.gguf", "é ü"),
    ],
)
def test_a_model_is_called_like_its_file(path: str, alias: str) -> None:
    assert alias_of(path) == alias


@pytest.mark.parametrize(
    "body",
    [
        gguf(("general.architecture", "llama"), ("general.type", "model")),
        gguf(("general.architecture", "llama")),
        b"GGUF",
        b"GGUF" + b"\xff" * 100,
    ],
    ids=["model", "before-types", "magic-only", "nonsense"],
)
def test_what_can_be_a_model_is_left_to_the_server(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(body)
    check_model(path)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is not a GGUF file"),
        (b"PK\x03\x04" * 99, "is not a GGUF file"),
        (gguf(("general.architecture", "llama"), ("general.type", "adapter")), "of adapter, not a model"),
        (gguf(("general.architecture", "clip")), "of mmproj, not a model"),
    ],
)
def test_what_cannot_be_a_model_is_told(tmp_path: Path, body: bytes, words: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(body)
    with pytest.raises(StartFailed, match=words) as caught:
        check_model(path)
    assert caught.value.code == "start.not_gguf"


def test_a_file_that_is_not_there_is_told_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(StartFailed) as caught:
        check_model(tmp_path / "no.gguf")
    assert caught.value.code == "start.no_file"
    assert caught.value.hint == f"ls -l {tmp_path}"


def test_a_folder_and_a_fifo_are_no_models(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.gguf")
    for path in (tmp_path, tmp_path / "fifo.gguf"):
        with pytest.raises(StartFailed) as caught:
            check_model(path)
        assert caught.value.code == "start.not_gguf"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    path.chmod(0)
    with pytest.raises(StartFailed, match="cannot be read: Permission denied"):
        check_model(path)


def test_a_port_is_free_until_somebody_listens_there() -> None:
    port = free_port("127.0.0.1")
    assert is_port_free("127.0.0.1", port)
    for host in ("127.0.0.1", "0.0.0.0"):
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host, port))
            one.listen()
            assert not is_port_free("127.0.0.1", port)
    assert is_port_free("localhost", port)


def test_a_host_of_another_machine_is_an_error_not_a_taken_port() -> None:
    with pytest.raises(OSError, match="assign requested address"):
        is_port_free("203.0.113.9", 8080)


@contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Be nobody for a while, where the tests are run by root, who may open every port."""
    free_port()  # what a name is looked up with is loaded by whoever may read it
    was = os.geteuid()
    if was == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(was)


def test_a_port_that_may_not_be_opened_is_not_told_as_taken() -> None:
    with an_ordinary_user():
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", 1001))
            except PermissionError:
                pass
            else:
                pytest.skip("here every user may open any port")
        with pytest.raises(PermissionError, match="port 1001 may not be opened by this user"):
            is_port_free("127.0.0.1", 1001)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may listen there")
def test_a_port_that_may_not_be_opened_and_has_a_server_is_taken() -> None:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 1002))
        one.listen()
        with an_ordinary_user():
            assert not is_port_free("127.0.0.1", 1002)


LOADING = """\
0.00.005.163 E common_fit_params: encountered an error while trying to fit params: failed to load model
0.00.005.396 E llama_model_load: error loading model: tensor 'blk.0.x' data is not within the file bounds
0.00.005.410 E cmn  common_init_: failed to load model 'a.gguf'
0.00.005.411 E srv    load_model: failed to load model, 'a.gguf'
0.00.005.808 E srv          init: exiting due to model loading error
"""


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", ""),
        ("\n \n", ""),
        (LOADING, "error loading model: tensor 'blk.0.x' data is not within the file bounds"),
        (
            "0.1 E srv   load_model: failed to load model, 'a.gguf'\nexiting due to model loading error\n",
            "failed to load model, 'a.gguf'",
        ),
        (
            "0.00.003.096 E srv         start: couldn't bind HTTP server socket, hostname: ::1, port: 8080\n"
            "0.00.003.216 E srv          init: exiting due to HTTP server error\n"
            "\nhived-llamacpp: port 1 is taken\n",
            "hived-llamacpp: port 1 is taken",
        ),
        ("cudaMalloc failed: out of memory\nfailed to load model\n", "cudaMalloc failed: out of memory"),
        (
            "llama-server: error while loading shared libraries: libmtmd.so: cannot open\n",
            "llama-server: error while loading shared libraries: libmtmd.so: cannot open",
        ),
        (
            "Traceback (most recent call last):\n  File x\nModuleNotFoundError: no a\n",
            "ModuleNotFoundError: no a",
        ),
        ("\x1b[31merror: \x1b[0minvalid argument: --x\x07\n", "error: invalid argument: --x"),
        (
            "/x/a.cpp:1455: fatal error\n#1 0x0 in main ()\n[Inferior 1 detached]\n",
            "/x/a.cpp:1455: fatal error",
        ),
        ("first\nsomething\x00else\n", "something else"),
        ("x" * 5000, "x" * 300),
    ],
)
def test_the_reason_of_an_end_is_the_telling_line(tmp_path: Path, log: str, reason: str) -> None:
    path = tmp_path / "log"
    path.write_text(log)
    assert why_it_ended(read_tail(path)) == reason


def test_only_the_end_of_a_log_is_read_and_not_what_an_earlier_start_said(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("out of memory\n" + "line\n" * 20_000 + "the end\n")
    assert why_it_ended(read_tail(path)) == "the end"
    path.write_text("out of memory\n")
    assert why_it_ended(read_tail(path, since=path.stat().st_size)) == ""
    assert why_it_ended(read_tail(tmp_path / "none")) == ""


@pytest.mark.parametrize(
    ("words", "is_memory"),
    [
        ("allocating 8128.00 MiB on device 0: cudaMalloc failed: out of memory", True),
        ("alloc_tensor_range: failed to allocate CUDA0 buffer of size 8523874304", True),
        ("terminate called after throwing an instance of 'std::bad_alloc'", True),
        ("not enough memory for buffer of 9000000000 bytes", True),
        ("error loading model: unknown model architecture: 'room'", False),
        ("", False),
    ],
)
def test_an_end_for_lack_of_memory_is_told_from_others(words: str, is_memory: bool) -> None:
    assert fault_of(words, title="llama.cpp", restart="r", log="l").code == (
        "start.no_memory" if is_memory else "start.architecture" if "architecture" in words else "start.ended"
    )
