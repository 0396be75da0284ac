"""Which llama.cpp server this machine has, and how it is started.

A ``llama-server`` of the user's own comes first, since it knows the user's graphics card; without one,
the server inside the xllamacpp wheel does. Nothing here starts a server: this module says with which
words one is started.

A server started by hived listens on this device, for this user's programs: no tools on the host, no
proxying for web pages, no settings that can be changed over HTTP, and no secret on a command line,
where every user of the machine can read it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from hived.machine.inherited import without_ours

HELP_DEADLINE = 10.0
"""Seconds for a program to print its help; it may load graphics drivers first."""


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
    if refused := sorted(set(_refused(extra))):
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

    Every flag of llama-server has a twin there. One is added unless it is set: without it, a crash in
    llama.cpp starts a debugger to print a backtrace, and the server hangs instead of ending (seen: 1.3 s
    against 7 ms).
    """
    kept = {
        name: text
        for name, text in without_ours(base).items()
        if not name.startswith("LLAMA_ARG_") and name != "LLAMA_API_KEY"
    }
    return {"GGML_NO_BACKTRACE": "1"} | kept


def alias_of(path: str | os.PathLike[str]) -> str:
    """Name a model by its file: the stem, without a shard's number.

    A comma would make two names of it, and a leading dash a flag.
    """
    name = os.path.basename(os.fspath(path))
    stem = re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", name, flags=re.IGNORECASE)
    return re.sub(r"[,\x00-\x1f\x7f]", "-", stem).lstrip("-") or "model"


def _refused(words: Sequence[str]) -> Iterator[str]:
    """Yield the flags that are not passed on. llama.cpp takes ``_`` for ``-`` in every long one."""
    for word in words:
        flag = word.split("=", 1)[0]
        if (flag.replace("_", "-") if flag.startswith("--") else flag) in _NEVER:
            yield flag


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
