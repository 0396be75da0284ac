"""Whether a file can be a model of llama.cpp's, told from its first bytes before a server is started."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

import msgspec

from hived_client.doors.regular import NotAFile, open_regular
from hived_client.errors import StartFailed
from hived_client.vocabulary.faults import fault

HEAD = 65_536
"""Bytes at the beginning of a file that are searched for what it is."""


def check_model(path: str | os.PathLike[str]) -> None:
    """Look whether this can be a model of llama.cpp's, before a server is started for it. Blocks.

    Raises StartFailed with ``start.no_file`` (missing or unreadable) or ``start.not_gguf``.
    """
    name = os.fspath(path)
    try:
        with open_regular(name) as file:
            kind = _gguf_kind(file)
    except FileNotFoundError:
        folder = os.path.dirname(os.path.abspath(name))
        raise StartFailed(fault("start.no_file", path=name, directory=folder)) from None
    except NotAFile:
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


def _gguf_kind(file: BinaryIO) -> str | None:
    """Read what a GGUF file says it is: ``model``, or another word; None where it is not GGUF.

    The file begins: magic, u32 version, u64 tensors, u64 pairs; then pairs of a string (u64 length,
    bytes), a u32 type and a value. `general.type` stands among the first, before any array. A file of
    before that key says nothing and is taken for a model.
    """
    head = file.read(HEAD)
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
