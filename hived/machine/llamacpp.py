"""Which llama.cpp server this machine has, and how it is started.

A ``llama-server`` of the user's own comes first, since it knows the user's graphics card; without one,
the server inside the xllamacpp wheel does. Nothing here starts a server: this module says with which
words one is started, and reads afterwards why one ended.

A server started by hived listens on this device, for this user's programs: no tools on the host, no
proxying for web pages, no settings that can be changed over HTTP, and no secret on a command line,
where every user of the machine can read it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import os
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from hived_client.errors import StartFailed
from hived_client.vocabulary.faults import fault

HELP_DEADLINE = 10.0
"""Seconds for a program to print its help; it may load graphics drivers first."""

LOG_TAIL = 65_536
"""Bytes at the end of a log that are searched for the reason of an end."""

REASON_LENGTH = 300
"""Characters of a reason."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A llama.cpp server that can be run: ``argv`` is how its command line begins."""

    kind: Literal["llama-server", "embedded"]
    argv: tuple[str, ...]


_EMBEDDED_FLAGS = frozenset(
    (
        "--model",
        "--host",
        "--port",
        "--alias",
        "--ctx-size",
        "--parallel",
        "--threads",
        "--gpu-layers",
        "--sleep-idle-seconds",
        "--api-key-file",
        "--metrics",
    )
)

_POWERS = (
    *("--tools", "--tools-runtime", "--agent", "--props"),
    *("--ui-mcp-proxy", "--webui-mcp-proxy", "--mcp-servers-config", "--mcp-servers-json"),
)
_SECRETS = ("--api-key", "--hf-token", "-hft")
_OURS = ("--model", "-m", "--host", "--port", "--alias", "-a", "--ctx-size", "-c")
_NEVER = frozenset((*_POWERS, *_SECRETS, *_OURS))
"""Power over this machine for whoever reaches the port; secrets that ``ps`` would show; and what hived
says itself, where the second word would silently win."""


def find_program() -> Program | None:
    """Find a llama.cpp server: ``llama-server``, ``llama serve``, or the one in a wheel. Blocks."""
    if path := shutil.which("llama-server"):
        return Program(kind="llama-server", argv=(os.path.abspath(path),))
    if path := shutil.which("llama"):
        program = Program(kind="llama-server", argv=(os.path.abspath(path), "serve"))
        if "--model" in supported_flags(program):  # an older or another "llama" has no such verb
            return program
    if importlib.util.find_spec("xllamacpp") is not None:
        return Program(kind="embedded", argv=(sys.executable, "-P", "-m", "hived.machine.embedded_llamacpp"))
    return None


def supported_flags(program: Program) -> frozenset[str]:
    """List the long flags of a program, from its own help (asked once, and again when it changes). Blocks.

    Empty where it does not say: builds differ, and a flag that one does not know ends it at once.
    """
    if program.kind == "embedded":
        return _EMBEDDED_FLAGS
    try:
        changed = os.stat(program.argv[0]).st_mtime_ns
    except OSError:
        return frozenset()
    return _ask_flags(program.argv, changed)


def check_model(path: str | os.PathLike[str]) -> None:
    """Look whether this can be a model of llama.cpp's, before a server is started for it. Blocks.

    Raises StartFailed with ``start.no_file`` (missing or unreadable) or ``start.not_gguf``.
    """
    name = os.fspath(path)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a fifo must not hold us
        with open(fd, "rb") as file:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            kind = _gguf_kind(file) if regular else None
    except FileNotFoundError:
        folder = os.path.dirname(os.path.abspath(name))
        raise StartFailed(fault("start.no_file", path=name, directory=folder)) from None
    except IsADirectoryError:
        kind = None
    except OSError as error:
        refused = fault("start.no_file", path=name, directory=name)
        sentence = f"The model file {name} cannot be read: {error.strerror}."
        raise StartFailed(msgspec.structs.replace(refused, message=sentence)) from error
    if kind == "model":
        return
    wrong = fault("start.not_gguf", path=name)
    if kind is not None:
        wrong = msgspec.structs.replace(wrong, message=f"{name} is a GGUF file of {kind}, not a model.")
    raise StartFailed(wrong)


def command(
    program: Program,
    *,
    model: str,
    port: int,
    alias: str,
    host: str = "127.0.0.1",
    context: int | None = None,
    extra: Sequence[str] = (),
) -> list[str]:
    """Write the command line of a server for one model. Blocks where the program's help is still unread.

    ``context`` is tokens for all slots together; None leaves it to the server. Raises ValueError for a
    word in ``extra`` that hived never passes on or says itself.
    """
    if refused := sorted({word.split("=", 1)[0] for word in extra} & _NEVER):
        raise ValueError(f"{' '.join(refused)} is not passed on to a server that hived starts")
    argv = [*program.argv, "--model", os.path.abspath(model), "--host", host, "--port", str(port)]
    argv += ["--alias", alias]
    if context is not None:
        argv += ["--ctx-size", str(context)]
    flags = supported_flags(program)
    argv += [flag for flag in ("--metrics", "--offline") if flag in flags]
    argv += [flag for flag in ("--no-ui", "--no-webui") if flag in flags][:1]
    if "--cors-origins" in flags:  # else any web page that the user opens may read the answers
        argv += ["--cors-origins", "localhost"]
    return [*argv, *extra]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Copy an environment without what would configure the server behind our back or was meant for us.

    Every flag of llama-server has a twin there. The service manager's variables would let the child
    speak in the daemon's name. One is added unless it is set: without it, a crash in llama.cpp starts a
    debugger to print a backtrace, and the server hangs instead of ending (seen: 1.3 s against 7 ms).
    """
    ours = ("LLAMA_ARG_", "WATCHDOG_", "LISTEN_")
    exactly = ("LLAMA_API_KEY", "NOTIFY_SOCKET", "HIVED_NOTIFY_FD")
    kept = {name: text for name, text in base.items() if not name.startswith(ours) and name not in exactly}
    return {"GGML_NO_BACKTRACE": "1"} | kept


def alias_of(path: str | os.PathLike[str]) -> str:
    """Name a model by its file: the stem, without a shard's number.

    A comma would make two names of it, and a leading dash a flag.
    """
    name = os.path.basename(os.fspath(path))
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", name, flags=re.IGNORECASE)
    return re.sub(r"[,\x00-\x1f\x7f]", "-", stem).lstrip("-") or "model"


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on now. Another may take it before it is used."""
    with _server_socket(host) as (one, address):
        one.bind((address, 0))
        return int(one.getsockname()[1])


def is_port_free(host: str, port: int) -> bool:
    """Say whether a server could listen there. Raises OSError for a host that is not this machine's."""
    with _server_socket(host) as (one, address):
        try:
            one.bind((address, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
        return True


def why_it_ended(log: Path, *, since: int = 0, started: bool = False) -> str:
    """Find the line of a log that says why the server ended; empty where there is nothing to read. Blocks.

    Logs are appended to: ``since`` is the length that the file had before this start, so that an older
    reason is not told again. ``started``: of one that had served, the last line alone tells nothing. At
    most 300 characters, without control characters.
    """
    try:
        with open(log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since, size - LOG_TAIL))
            text = file.read(LOG_TAIL).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line for raw in text.splitlines() if (line := _clean(raw))]
    for telling in _TELLING:
        for line in reversed(lines):
            if telling.search(line):
                return line[:REASON_LENGTH]
    return lines[-1][:REASON_LENGTH] if lines and not started else ""


def is_out_of_memory(words: str) -> bool:
    """Tell whether the reason of an end is that the model did not fit."""
    return re.search(_NO_MEMORY, words, re.IGNORECASE) is not None


_NO_MEMORY = r"out of memory|\boom\b|failed to allocate|unable to allocate|bad_alloc|not enough memory"
_TELLING = tuple(
    re.compile(pattern, re.IGNORECASE)
    # The first that occurs is the reason; what stands further down often is its consequence.
    for pattern in (
        r"error while loading shared libraries|Library not loaded",
        r"couldn't bind HTTP server socket|^hived-llamacpp: port ",
        _NO_MEMORY,
        r"error loading model|unknown model architecture|failed to apply lora adapter",
        r"^hived-llamacpp: ",
        r"failed to (load|open) (the )?(GGUF|model)",
        r"^error: |invalid argument",
        r"^(\w+\.)*\w*(Error|Exception)\b",
        r"GGML_ASSERT|: fatal error$|Segmentation fault|terminate called",
    )
)
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-_])")
_PREFIX = re.compile(r"^[\d.]+ [A-Z] (\w{2,4} +)?(\w+(\(\))?: +)?(?=\S)")


def _clean(line: str) -> str:
    """Strip colours, control characters and llama.cpp's time, level, module and function from a line."""
    plain = "".join(c if c.isprintable() else " " for c in _ESCAPE.sub("", line))
    return " ".join(_PREFIX.sub("", plain).split())


@functools.lru_cache(maxsize=8)
def _ask_flags(argv: tuple[str, ...], changed: int) -> frozenset[str]:
    try:
        done = subprocess.run(
            [*argv, "--help"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=HELP_DEADLINE,
            env=environment(os.environ),
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset(
        re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", (done.stdout + done.stderr).decode("utf-8", "replace"))
    )


def _gguf_kind(file: BinaryIO) -> str | None:
    """Read what a GGUF file says it is: ``model``, or another word; None where it is not GGUF.

    The file begins: magic, u32 version, u64 tensors, u64 pairs; then pairs of a string (u64 length,
    bytes), a u32 type and a value. `general.type` stands among the first, before any array. A file of
    before that key says nothing and is taken for a model.
    """
    head = file.read(LOG_TAIL)
    if head[:4] != b"GGUF":
        return None
    try:
        pairs = min(struct.unpack_from("<Q", head, 16)[0], 32)
        at = 24
        for _ in range(pairs):
            key, at = _gguf_string(head, at)
            type_, at = struct.unpack_from("<I", head, at)[0], at + 4
            if type_ == 8:
                value, at = _gguf_string(head, at)
                if key == b"general.type":
                    return value.decode("utf-8", "replace")
                if key == b"general.architecture" and value == b"clip":
                    return "mmproj"  # an eye without a mind: written before there was general.type
            elif type_ in _GGUF_SIZES:
                at += _GGUF_SIZES[type_]
            else:
                break
    except (struct.error, OverflowError):
        pass  # cut short or of another byte order: the server's own words will be better than ours
    return "model"


_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def _gguf_string(head: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", head, at)
    end = at + 8 + length
    return head[at + 8 : end], end


@contextlib.contextmanager
def _server_socket(host: str) -> Iterator[tuple[socket.socket, str]]:
    """Open a socket as a server would, and give it with the numeric address of its host."""
    family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as one:
        # As llama.cpp does: else connections that ended a moment ago would make a free port look taken.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield one, str(address[0])
