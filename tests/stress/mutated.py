"""Frames that no client would send: random bytes, random messages, and good ones with something wrong."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import msgspec

from hived_client.doors.frames import frame
from hived_client.doors.session import HELLO

pack = msgspec.msgpack.encode

METHODS = ("world", "resolve", "refresh", "statistics", "requests", "start", "stop", "reload", "subscribe")
"""All but ``retire``, which a frame that happens to be a good one would carry out."""

GOOD = [
    frame(pack({"id": 1, "method": method, "params": params}))
    for method, params in (
        ("world", {}),
        ("statistics", {}),
        ("resolve", {"question": {"model": "llamacpp/m", "context": 4096}, "timeout": 0.01}),
        ("refresh", {"endpoint": "nobody", "timeout": 0.01}),
        ("start", {"provider": "llamacpp", "model": "/nowhere.gguf", "port": 0, "timeout": 0.01}),
        ("stop", {"name": "nobody", "grace": 0.01}),
        ("subscribe", {}),
    )
]
INTERESTING = (0, 1, -1, 0x7F, 0x80, 0xFF, 0x90, 0x91, 0xC0, 0xC1, 0xC7, 0xD9, 0xDD, 0xDF)


def mutated(chance: random.Random) -> bytes:
    """Return one piece of nonsense, hello included where it comes after that."""
    return chance.choice(KINDS)(chance)


def _noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((1, 3, 4, 5, 64, 1000)))


def _framed_noise(chance: random.Random) -> bytes:
    return HELLO * chance.randrange(2) + frame(chance.randbytes(chance.randrange(200)))


def _lying_length(chance: random.Random) -> bytes:
    length = chance.choice((0, 1, 65_535, 65_537, 8 * 2**20, 8 * 2**20 + 1, 2**31, 2**32 - 1))
    return HELLO * chance.randrange(2) + struct.pack(">I", length) + chance.randbytes(chance.randrange(100))


def _changed_hello(chance: random.Random) -> bytes:
    return _changed(HELLO, chance)


def _changed_request(chance: random.Random) -> bytes:
    return HELLO + _changed(chance.choice(GOOD), chance)


def _random_message(chance: random.Random) -> bytes:
    return HELLO + frame(pack(_value(chance, 4)))


def _random_request(chance: random.Random) -> bytes:
    request = {"id": _value(chance, 1), "method": chance.choice(METHODS), "params": _value(chance, 4)}
    if chance.random() < 0.7:
        request["id"] = chance.randrange(2**63)
    if chance.random() < 0.1:
        del request[chance.choice(sorted(request))]
    return HELLO + frame(pack(request))


def _deep(chance: random.Random) -> bytes:
    opener = chance.choice((b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\x81\xa6params"))
    body = opener * chance.choice((10, 1000, 20_000))
    return HELLO + frame(chance.choice((b"", b"\x83\xa2id\x01\xa6method\xa7resolve\xa6params")) + body)


def _many(chance: random.Random) -> bytes:
    return HELLO + b"".join(_changed(chance.choice(GOOD), chance) for _ in range(chance.randrange(2, 20)))


KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    _noise,
    _framed_noise,
    _lying_length,
    _changed_hello,
    _changed_request,
    _changed_request,
    _random_message,
    _random_request,
    _random_request,
    _deep,
    _many,
)


def _changed(good: bytes, chance: random.Random) -> bytes:
    """Change one to four things in a frame; its length is made right again half of the time."""
    data = bytearray(good)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data)) if data else 0
        match chance.randrange(6) if data else 3:
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at] = chance.choice(INTERESTING) % 256
            case 2:
                del data[at : at + chance.randint(1, 8)]
            case 3:
                data[at:at] = chance.randbytes(chance.randint(1, 8))
            case 4:
                data[at:at] = data[at : at + chance.randint(1, 16)]
            case _:
                del data[at:]
    return frame(bytes(data[4:])) if chance.random() < 0.5 else bytes(data)


def _value(chance: random.Random, depth: int) -> object:
    kinds = 9 if depth else 7
    match chance.randrange(kinds):
        case 0:
            return None
        case 1:
            return chance.random() < 0.5
        case 2:
            return chance.choice((0, -1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, chance.randrange(1000)))
        case 3:
            return chance.choice((0.0, float("nan"), float("inf"), -1e308, chance.random()))
        case 4:
            return chance.choice(
                ("", "llamacpp", "llamacpp/m", "\x1b[2J", "x" * 300, "\0", "../../etc/passwd")
            )
        case 5:
            return chance.randbytes(chance.randrange(20))
        case 6:
            return chance.choice(("timeout", "question", "model"))
        case 7:
            return [_value(chance, depth - 1) for _ in range(chance.randrange(5))]
        case _:
            names = (
                "question",
                "model",
                "timeout",
                "fresh",
                "endpoint",
                "provider",
                "port",
                "name",
                "grace",
                "id",
            )
            return {chance.choice(names): _value(chance, depth - 1) for _ in range(chance.randrange(5))}
