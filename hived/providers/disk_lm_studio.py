"""What lies in LM Studio's models folder: ``PUBLISHER/MODEL/FILE.gguf``, or a folder of MLX weights.

Read only, and tolerant as ``disk_huggingface``: a folder that cannot be read is passed over. The names are
those of the folders; the server's own keys for models of its catalogue differ. Blocks: call it in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import msgspec

from hived.providers.disk_huggingface import files_below, gguf_models, read_json, read_small
from hived.providers.fields import count, inner, text
from hived_client.vocabulary.world import Model

MOST_FOLDERS = 2_000
"""Publishers, and models of each, that are looked at."""


def studio_folder(environment: Mapping[str, str]) -> str:
    """Return LM Studio's own folder, where its pointer says, else in the old place, else in the new."""
    home = environment.get("HOME", "")
    pointer = read_small(os.path.join(home, ".lmstudio-home-pointer"), 4096)
    try:
        pointed = (pointer or b"").decode().strip()
    except UnicodeDecodeError:
        pointed = ""
    if os.path.isabs(pointed) and pointed.isprintable():
        return pointed
    old = os.path.join(home, ".cache", "lm-studio")
    return old if os.path.isdir(old) else os.path.join(home, ".lmstudio")


def models_folder(folder: str) -> str:
    """Return where the models are: in its settings the user may have named another place."""
    named = text(read_json(os.path.join(folder, "settings.json")).get("downloadsFolder"), 4096)
    return named if named is not None and os.path.isabs(named) else os.path.join(folder, "models")


def server_port(folder: str) -> int | None:
    """Return the port that the server had last, which it remembers; ``None`` where it does not say."""
    port = count(read_json(os.path.join(folder, ".internal", "http-server-config.json")).get("port"))
    return port if port is not None and port < 65536 else None


LISTENER_PORTS = (41343, 52993, 16141, 39414, 22931)
"""Where LM Studio listens for its own clients, the first that is free, unless it has written down where."""


def listener_ports(environment: Mapping[str, str]) -> tuple[int, ...]:
    """Return where an open LM Studio listens for its own clients, whether or not its HTTP server is started.

    None where there is no LM Studio. Blocks.
    """
    folder = studio_folder(environment)
    if not environment.get("HOME") or not os.path.isdir(folder):
        return ()
    path = environment.get("LMS_API_SERVER_INFO_PATH") or os.path.join(
        folder, ".internal", "http-server.json"
    )
    port = count(read_json(path).get("port"))
    return LISTENER_PORTS if port is None else (port,) if port < 65536 else ()


def read_models(folder: str) -> tuple[Model, ...]:
    """Return the models in LM Studio's models folder, by name. Never raises.

    A folder with one model in it has the folders' names, ``PUBLISHER/MODEL``; one with several GGUF files
    has a model for each, with its quantisation behind a colon.
    """
    models: dict[str, Model] = {}
    for publisher in folders_in(folder):
        for name in folders_in(os.path.join(folder, publisher)):
            identity = text(f"{publisher}/{name}")
            if identity is None:
                continue
            for model in _of_folder(os.path.join(folder, publisher, name), identity):
                models.setdefault(model.name, model)
    return tuple(models[name] for name in sorted(models))


def _of_folder(path: str, identity: str) -> Iterator[Model]:
    files = files_below(path, inside=path)
    weights = [size for name, size in files.items() if name.endswith(".safetensors") and size is not None]
    if weights and "config.json" in files:
        told = read_json(os.path.join(path, "config.json"))
        bits = count(inner(told, "quantization", "bits"))
        yield Model(
            name=identity,
            file=text(path, 4096),
            state="unloaded",
            size=count(sum(weights)),
            quantization=f"{bits}bit" if bits is not None else None,
            context=count(told.get("max_position_embeddings"))
            or count(inner(told, "text_config", "max_position_embeddings")),
        )
    found = list(gguf_models(path, identity, files))
    if len(found) == 1 and not weights:
        found = [msgspec.structs.replace(found[0], name=identity)]
    yield from found


def folders_in(path: str) -> list[str]:
    """Return the folders in one; links to folders are not followed."""
    names: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if len(names) >= MOST_FOLDERS:
                    break
                if entry.is_dir(follow_symlinks=False):
                    names.append(entry.name)
    except (OSError, ValueError):
        return []
    return sorted(names)
