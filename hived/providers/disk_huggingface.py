"""What lies in the Hugging Face hub's cache: models that vLLM or llama.cpp could serve without a download.

    models--ORG--REPO/refs/main            the commit
    models--ORG--REPO/snapshots/COMMIT/…   links into blobs/ (plain files on some systems)
    models--ORG--REPO/blobs/*.incomplete   a download that is going on, or was broken off

Read only, and only what is small. A repository that cannot be read is passed over, so that it does not
hide the others. No link is followed but those of a snapshot into its own repository. Blocks: call it in a
thread.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping

import msgspec

from hived.providers.fields import MOST_ITEMS, count, inner, is_object, text
from hived_client.doors.regular import open_regular
from hived_client.vocabulary.world import Model

MOST_FILES = 2_000
"""Files of one snapshot that are looked at."""
MOST_BYTES = 16 * 1024 * 1024
"""Bytes that a JSON file may have."""

_COMMIT = re.compile(rb"[0-9a-f]{40}")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
_QUANTIZATION = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|BF16|F16|F32|MXFP4(?:_MOE)?|NVFP4))$", re.IGNORECASE
)
_NOT_MODELS = ("mtp-", "eagle3-", "dflash-", "dspark-")
"""Beginnings of the names of helpers for other models."""


def hub_folder(environment: Mapping[str, str]) -> str:
    """Return where the hub's cache is, as its own library finds it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(variable):
            return os.path.expanduser(environment[variable])
    if environment.get("HF_HOME"):
        return os.path.join(os.path.expanduser(environment["HF_HOME"]), "hub")
    cache = environment.get("XDG_CACHE_HOME") or os.path.join(environment.get("HOME", ""), ".cache")
    return os.path.join(cache, "huggingface", "hub")


def read_models(folder: str) -> tuple[Model, ...]:
    """Return the models in a hub cache, by name. Never raises.

    A repository with weights as safetensors is one model whose ``file`` is its snapshot (what vLLM and
    MLX take); a GGUF is one model a file, named ``ORG/REPO:QUANTIZATION`` as llama.cpp does. Other
    repositories (data sets, tokenizers alone) are not models.
    """
    models: dict[str, Model] = {}
    for name in _names(folder):
        kind, separator, repository = name.partition("--")
        identity = text(repository.replace("--", "/"))
        if kind != "models" or not separator or identity is None:
            continue
        for model in _repository(os.path.join(folder, name), identity):
            models.setdefault(model.name, model)
    return tuple(models[name] for name in sorted(models))


def _repository(path: str, identity: str) -> Iterator[Model]:
    commit = read_small(os.path.join(path, "refs", "main"), 100)
    found = _COMMIT.match(commit.strip()) if commit is not None else None
    if found is None:
        return
    digest = found[0].decode()
    snapshot = os.path.join(path, "snapshots", digest)
    files = files_below(snapshot, inside=path)
    safetensors = {name: size for name, size in files.items() if name.endswith(".safetensors")}
    if safetensors and "config.json" in files:
        yield _safetensors(snapshot, identity, digest, safetensors, unfinished=_is_unfinished(path))
    yield from gguf_models(snapshot, identity, files, digest=digest)


def _safetensors(
    snapshot: str, identity: str, digest: str, files: Mapping[str, int | None], *, unfinished: bool
) -> Model:
    """Describe a repository of safetensors by what its configuration says."""
    told = read_json(os.path.join(snapshot, "config.json"))
    inside = told.get("text_config")
    own = inside if is_object(inside) else told
    index = read_json(os.path.join(snapshot, "model.safetensors.index.json"))
    sizes = [size for size in files.values() if size is not None]
    missing = unfinished and (len(sizes) < len(files) or _lacks_shards(index, files))
    return Model(
        name=identity,
        file=text(snapshot, 4096),
        state="downloading" if missing else "unloaded",
        digest=digest,
        size=count(inner(index, "metadata", "total_size")) or count(sum(sizes)),
        quantization=_quantization_of(told) or _quantization_of(own),
        context=count(own.get("max_position_embeddings")),
    )


def _lacks_shards(index: Mapping[str, object], files: Mapping[str, int | None]) -> bool:
    shards = index.get("weight_map")
    wanted = {name for name in shards.values() if isinstance(name, str)} if is_object(shards) else set()
    return not wanted <= files.keys()


def _quantization_of(config: Mapping[str, object]) -> str | None:
    method = text(inner(config, "quantization_config", "quant_method"), 40)
    bits = count(inner(config, "quantization_config", "bits"))
    if method is not None:
        return f"{method}-{bits}bit" if bits is not None else method
    return text(config.get("torch_dtype") or config.get("dtype"), 40)


def gguf_models(
    folder: str, identity: str, files: Mapping[str, int | None], *, digest: str | None = None
) -> Iterator[Model]:
    """Yield the models of a folder's GGUF files: a split one once, helpers and projectors not at all."""
    for name, size in sorted(files.items()):
        stem, extension = os.path.splitext(os.path.basename(name))
        shard = _SHARD.search(stem)
        whole = stem if shard is None else stem[: shard.start()]
        if extension.lower() != ".gguf" or "mmproj" in whole.lower() or whole.startswith(_NOT_MODELS):
            continue
        sizes = [size]
        if shard is not None:
            if shard[1] != "00001" or int(shard[2]) > MOST_FILES:
                continue
            base = name[: -len(".gguf")]
            parts = (f"{_SHARD.sub('', base)}-{n:05}-of-{shard[2]}.gguf" for n in range(1, int(shard[2]) + 1))
            sizes = [files.get(part) for part in parts]
        quantization = quantization_in(whole)
        own = text(f"{identity}:{quantization or whole}")
        if own is not None:
            there = [each for each in sizes if each is not None]
            yield Model(
                name=own,
                file=text(os.path.join(folder, name), 4096),
                state="unloaded" if len(there) == len(sizes) else "downloading",
                digest=digest,
                size=count(sum(there)),
                quantization=quantization,
            )


def quantization_in(stem: str) -> str | None:
    """Return the quantisation that a GGUF's name ends with: ``Q4_K_M`` of ``qwen3-8b-Q4_K_M``."""
    found = _QUANTIZATION.search(stem)
    return found[1].upper() if found is not None else None


def files_below(folder: str, *, inside: str, most: int = MOST_FILES) -> dict[str, int | None]:
    """Return the files below a folder, by relative name, with their sizes.

    At most ``most``, three folders deep. A link counts only if it ends within ``inside``; its size is
    ``None`` where it leads nowhere, which is a file that is not there yet.
    """
    found: dict[str, int | None] = {}
    root = os.path.realpath(inside) + os.sep
    waiting = [""]
    while waiting:
        here = waiting.pop()
        for name in _names(os.path.join(folder, here)):
            relative = os.path.join(here, name)
            path = os.path.join(folder, relative)
            if len(found) >= most or not (os.path.realpath(path) + os.sep).startswith(root):
                continue
            try:
                status = os.lstat(path)
                if stat.S_ISDIR(status.st_mode) and relative.count(os.sep) < 3:
                    waiting.append(relative)
                    continue
                if stat.S_ISLNK(status.st_mode):
                    status = os.stat(path)
            except OSError:
                found[relative] = None
                continue
            if stat.S_ISREG(status.st_mode):
                found[relative] = status.st_size
    return found


def read_json(path: str) -> dict[str, object]:
    """Return the object in a file; an empty one where there is none."""
    raw = read_small(path, MOST_BYTES)
    try:
        document: object = msgspec.json.decode(raw or b"null")
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return {}
    return document if is_object(document) else {}


def read_small(path: str, most: int) -> bytes | None:
    """Return what a regular file holds; ``None`` for one that cannot be read or is longer than that."""
    try:
        with open_regular(path) as file:
            raw = file.read(most + 1)
    except (OSError, ValueError):
        return None
    return raw if len(raw) <= most else None


def _is_unfinished(path: str) -> bool:
    return any(name.endswith(".incomplete") for name in _names(os.path.join(path, "blobs")))


def _names(folder: str) -> list[str]:
    """Return the names in a folder, as many as one server may have models; none where it cannot be read."""
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(names) >= MOST_ITEMS:
                    break
                names.append(entry.name)
    except (OSError, ValueError):
        return []
    return sorted(names)
