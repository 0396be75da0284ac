"""Ollama's models as they lie on disk, for when no server answers. Read only, and nothing is trusted.

``manifests/<host>/<namespace>/<model>/<tag>`` is JSON that names blobs; a model's digest is the sum of
that file's bytes, and is what ``/api/tags`` tells. No link is followed out of a models folder, and what
cannot be read is passed over: it may be another user's.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from hived.providers.fields import MOST_ITEMS, count, inner, is_object, items, text
from hived.providers.ollama_words import (
    aliases_of,
    capabilities_of,
    is_cloud,
    listed_capabilities_of,
    parameters_of,
    quantization_of,
)
from hived_client.doors.regular import open_regular
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.world import Model

SERVICE_FOLDER = "/usr/share/ollama/.ollama/models"
"""Where Ollama's own installer has the system service keep its models."""
MOST_ENTRIES = 100_000
"""Entries of folders that are looked at, over all roots."""
MOST_BYTES = 4 * 1024 * 1024
"""Bytes that a manifest, or the blob that describes a model, may have."""
MOST_READ = 256 * 1024 * 1024
"""Bytes that are read over all."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,79}")
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
_DEFAULT_HOST = "registry.ollama.ai"
_DEFAULT_NAMESPACE = "library"


def model_folders(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders that a server of this user or of this system keeps its models in."""
    own = environment.get("OLLAMA_MODELS", "").strip().strip("\"'").strip()
    home = environment.get("HOME", "")
    folders = [own, os.path.join(home, ".ollama", "models") if home else "", SERVICE_FOLDER]
    return tuple(dict.fromkeys(os.path.abspath(folder) for folder in folders if folder))


def manifest_folders(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders in which something changes when a model comes or goes."""
    return tuple(os.path.join(folder, "manifests") for folder in model_folders(environment))


def read_models(roots: Sequence[str]) -> tuple[Model, ...]:
    """Read the models below these folders, the newest first; of two with one name, the earlier root's.

    Blocks; call it in a thread. A model of which a part is missing is ``failed`` and its fault says so.
    """
    reader = _Reader()
    found: dict[str, tuple[float, Model]] = {}
    for root in dict.fromkeys(os.path.realpath(root) for root in roots):
        for parts, path in reader.manifests(root):
            name = _display_name(parts)
            if name is None or name.casefold() in found or len(found) >= MOST_ITEMS:
                continue
            read = reader.model(root, path, name)
            if read is not None:
                found[name.casefold()] = read
    newest = sorted(found.values(), key=lambda each: -each[0])
    return tuple(model for _, model in newest)


class _Reader:
    """Reads, and stops when it has read enough."""

    def __init__(self) -> None:
        self._entries = 0
        self._bytes = 0

    def manifests(self, root: str) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield every file exactly four folders below ``manifests``, with the names on the way."""
        yield from self._below(root, os.path.join(root, "manifests"), ())

    def model(self, root: str, path: str, name: str) -> tuple[float, Model] | None:
        raw = self.read(root, path)
        manifest = _decode(raw[0]) if raw is not None else None
        config = inner(manifest, "config")
        if raw is None or not is_object(manifest) or not is_object(config):
            return None
        layers = [config, *items(manifest.get("layers"))]
        missing = sum(not _is_there(root, layer) for layer in layers)
        blob = _blob(root, config)
        described = self.read(root, blob) if blob is not None else None
        told = _decode(described[0]) if described is not None else None
        cloud = is_cloud(name, told)
        return raw[1], Model(
            name=name,
            aliases=aliases_of(name),
            state=None if cloud else "failed" if missing else "unloaded",
            fault=fault("model.incomplete", model=name, missing=missing, parts=len(layers))
            if missing
            else None,
            digest=hashlib.sha256(raw[0]).hexdigest(),
            size=None if cloud else count(sum(count(layer.get("size")) or 0 for layer in layers)),
            quantization=quantization_of(inner(told, "file_type")),
            parameters=parameters_of(inner(told, "model_type")),
            context=count(inner(told, "context_length")),
            capabilities=(capabilities_of if cloud else listed_capabilities_of)(inner(told, "capabilities")),
            locality="internet" if cloud else None,
        )

    def read(self, root: str, path: str) -> tuple[bytes, float] | None:
        """Read a small file within a root, and when it was written; ``None`` where it may not be."""
        try:
            path = os.path.realpath(path, strict=True)
            if not path.startswith(root + os.sep):
                return None
            with open_regular(path, follow=False) as file:  # no link that was put there just now
                status = os.fstat(file.fileno())
                if status.st_size > MOST_BYTES:
                    return None
                if self._bytes + status.st_size > MOST_READ:
                    return None
                data = file.read(MOST_BYTES + 1)
        except (OSError, ValueError):
            return None
        self._bytes += len(data)
        return None if len(data) > MOST_BYTES else (data, status.st_mtime)

    def _below(self, root: str, folder: str, parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
        try:
            with os.scandir(folder) as entries:
                names = self._names(entries)
        except OSError:
            return
        for name in names:
            path = os.path.join(folder, name)
            whole = (*parts, name)
            if not _is_within(root, path):
                continue
            if len(whole) == 4:
                yield whole, path
            elif os.path.isdir(path):
                yield from self._below(root, path, whole)

    def _names(self, entries: Iterator[os.DirEntry[str]]) -> list[str]:
        names = []
        for entry in entries:
            self._entries += 1
            if self._entries > MOST_ENTRIES:
                break
            if _PART.fullmatch(entry.name):
                names.append(entry.name)
        return sorted(names)


def _is_within(root: str, path: str) -> bool:
    return not os.path.islink(path) or os.path.realpath(path).startswith(root + os.sep)


def _is_there(root: str, layer: Mapping[str, object]) -> bool:
    """Tell whether a layer's blob is there in full. Its length is asked for, its content is not read."""
    path = _blob(root, layer)
    try:
        status = os.stat(path) if path is not None else None
    except OSError:
        return False
    return (
        status is not None
        and stat.S_ISREG(status.st_mode)
        and status.st_size >= (count(layer.get("size")) or 0)
    )


def _blob(root: str, layer: Mapping[str, object]) -> str | None:
    digest = layer.get("digest")
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    return os.path.join(root, "blobs", f"sha256-{match[1]}") if match is not None else None


def _display_name(parts: tuple[str, ...]) -> str | None:
    """Return the name as Ollama shows it: the default host and namespace are left out, the tag never."""
    host, namespace, model, tag = parts
    shown = f"{model}:{tag}"
    if host != _DEFAULT_HOST:
        shown = f"{host}/{namespace}/{shown}"
    elif namespace != _DEFAULT_NAMESPACE:
        shown = f"{namespace}/{shown}"
    return text(shown)


def _decode(raw: bytes) -> object:
    try:
        value: object = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return value
