"""What of the caller's environment a service should have: the ``PATH``, and the variables that matter. Pure.

A service manager gives its services next to nothing of what a shell has. ``PATH`` decides which programs
hived finds, so it is written into the service. Variables that name servers and folders, and those that hold
the keys which the configuration names, are written into a file of the user's own, and only if they want that:
a key must not lie in a unit, which systemd shows to everybody.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from hived_client.vocabulary.services import PLACES, environment_lines

NAMES = frozenset(
    (
        *("LM_STUDIO_API_BASE", "LM_STUDIO_API_KEY"),
        *("HOSTED_VLLM_API_BASE", "HOSTED_VLLM_API_KEY"),
        *("HF_TOKEN", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "LLAMA_CACHE"),
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
        *("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
        *("HSA_OVERRIDE_GFX_VERSION", "WSL_DISTRO_NAME"),
    )
)
"""Variables that hived, or the servers that it starts, go by."""

PREFIXES = ("LLAMA_ARG_", "OLLAMA_", "VLLM_", "HIVED_")

NOT_HIS = frozenset((*PLACES, "HIVED_MANAGED_BY", "HIVED_NOTIFY_FD"))
"""Those that are settled otherwise, or concern one process only."""


def places_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that decide where the daemon's files are, each an absolute path."""
    given = {name: environment[name] for name in PLACES if environment.get(name)}
    return {
        name: os.path.abspath(os.path.expanduser(value))
        for name, value in given.items()
        if name != "XDG_STATE_HOME" or value.startswith("/")  # a relative one is not heeded
    }


def path_of(path: str, is_folder: Callable[[str], bool] = os.path.isdir) -> str:
    """Return a ``PATH`` as a service can use it: absolute, each folder once, none that is not there."""
    folders = (os.path.abspath(os.path.expanduser(each)) for each in path.split(os.pathsep) if each)
    kept = [each for each in dict.fromkeys(folders) if is_folder(each) and each.isprintable()]
    return os.pathsep.join(kept)


def variables_of(environment: Mapping[str, str], keys: Iterable[str] = ()) -> dict[str, str]:
    """Return the caller's variables that matter, by name; ``keys`` are names that the configuration gives."""
    wanted = NAMES | frozenset(keys)
    return {
        name: value
        for name, value in sorted(environment.items())
        if value and (name in wanted or name.startswith(PREFIXES)) and name not in NOT_HIS and _is_name(name)
    }


def environment_file(variables: Mapping[str, str]) -> bytes:
    """Return what the environment file holds."""
    head = b"# Written by hived service install; read by hived's service alone.\n"
    return head + environment_lines(variables)


def read_environment_file(text: str) -> dict[str, str]:
    """Read what ``environment_file`` writes: for launchd, which has nothing of the kind."""
    found: dict[str, str] = {}
    position = 0
    while (start := text.find('="', position)) >= 0:
        name = text[text.rfind("\n", 0, start) + 1 : start]
        value, position = _value(text, start + 2)
        if _is_name(name):
            found[name] = value
    return found


def _value(text: str, position: int) -> tuple[str, int]:
    """Read to the closing quote; return what was said and where it ends."""
    letters: list[str] = []
    while position < len(text) and text[position] != '"':
        if text[position] == "\\":
            position += 1
        letters.append(text[position : position + 1])
        position += 1
    return "".join(letters), position + 1


def _is_name(name: str) -> bool:
    return name.isascii() and name.isidentifier()
