"""The GGUF files that llama.cpp has fetched itself: in the Hugging Face cache, and in its own older one.

``$LLAMA_CACHE`` stands for both. The older cache is one flat folder of ``USER_REPOSITORY_FILE.gguf``, from
which user and repository cannot be told apart any more, so that a model there is named like its file, which
is a name that llama.cpp goes by. Read only, tolerant as ``disk_huggingface``. Blocks: call it in a thread.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping

import msgspec

from hived.providers import disk_huggingface
from hived.providers.disk_huggingface import files_below, gguf_models
from hived.providers.fields import text
from hived_client.vocabulary.world import Model

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


def flat_folder(environment: Mapping[str, str]) -> str:
    """Return where the older cache is."""
    if environment.get("LLAMA_CACHE"):
        return os.path.expanduser(environment["LLAMA_CACHE"])
    home = environment.get("HOME") or os.sep  # never a folder that depends on where the daemon was started
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Caches", "llama.cpp")
    return os.path.join(environment.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"), "llama.cpp")


def hub_folder(environment: Mapping[str, str]) -> str:
    """Return where the newer cache is, which is laid out as the Hugging Face hub's."""
    own = environment.get("LLAMA_CACHE")
    return os.path.expanduser(own) if own else disk_huggingface.hub_folder(environment)


def read_models(environment: Mapping[str, str]) -> tuple[Model, ...]:
    """Return the GGUF models of both caches, by name. Never raises."""
    found = {m.name: m for m in disk_huggingface.read_models(hub_folder(environment)) if is_gguf(m)}
    for model in _flat(flat_folder(environment)):
        found.setdefault(model.name, model)
    return tuple(found[name] for name in sorted(found))


def is_gguf(model: Model) -> bool:
    """Tell whether a model on disk is one that llama.cpp could load."""
    return model.file is not None and model.file.lower().endswith(".gguf")


def _flat(folder: str) -> Iterator[Model]:
    files = {name: size for name, size in files_below(folder, inside=folder).items() if os.sep not in name}
    for model in gguf_models(folder, "", files):
        stem = os.path.splitext(os.path.basename(model.file or ""))[0]
        name = text(_SHARD.sub("", stem))
        if name is not None:
            yield msgspec.structs.replace(model, name=name)
