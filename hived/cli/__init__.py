"""The command line. Each verb is a module that is imported when the verb is used.

Exit codes: 0 yes; 1 no, with the sentence and the hint on stderr; 2 usage; 3 the daemon is not running;
4 it does not answer.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence

VERBS: dict[str, str] = {
    "serve": "run the daemon in the foreground",
    "status": "what is running here, and what is wrong",
    "doctor": "what is well and what is not, and what mends it",
    "logs": "what hived wrote, or a server that it started",
    "hardware": "what this machine is, and what models will run on",
    "resolve": "how to call a model now, or why not",
    "env": "print the variables with which other programs call a model",
    "exec": "run a program with those variables",
    "plugin": "plug hived into Hive, or take it out again",
    "events": "print what changes, as it changes",
    "start": "start a model server",
    "stop": "stop a server that hived started",
    "service": "install hived as a service of this user, start it, stop it, remove it",
    "demo": "see all of it in a temporary home",
    "completion": "print the completion for a shell",
}

_OF_WRITING = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF))
"""What an output may answer that cannot be written to."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever called
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for the process's whole life
    try:
        code = _run(words)
        sys.stdout.flush()  # here, where a reader that has gone is expected, and not at the interpreter's end
    except BrokenPipeError:
        # The reader has had enough (`hived events | head`): say nothing more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # as the shell shows an end by SIGPIPE
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"hived: {_said(error)}", file=sys.stderr)
        return 1
    else:
        return code


def _said(error: OSError) -> str:
    """Say what the system refused, where no verb has a sentence of its own for it."""
    if error.errno in _OF_WRITING:
        return f"cannot write: {error.strerror}"
    if isinstance(error, FileNotFoundError) and error.filename is None:  # a name is told of all but this one
        return "the folder that you are in is not there any more"
    where = f": {error.filename!a}" if error.filename is not None else ""
    return f"{error.strerror or type(error).__name__}{where}"


def _run(words: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an arrow must not end a verb where there is only ASCII
    if words[:1] == ["help"] and words[1:2] and words[1] in VERBS:
        words = [words[1], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        from hived_client._version import __version__

        print(f"hived {__version__}")
        return 0
    if words[0] not in VERBS:
        print(f"hived: there is no verb {words[0]!a} → hived --help", file=sys.stderr)
        return 2
    from hived.cli.running import run

    return run(words[0], words[1:])


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:{width}}  {what}" for name, what in VERBS.items())
    return (
        "usage: hived VERB [OPTION …]\n\n"
        "What local models can run right now, and exactly how to call them.\n\n"
        f"{verbs}\n\n"
        "hived VERB --help explains a verb; --version prints the version."
    )
