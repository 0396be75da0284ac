"""LM Studio's own folder as the app leaves it: weights, the index of them, where it listens, LM Link.

No documentation of these files exists. They are as several people have described those of 0.4: the index
has an entry for every file, and for a name of the catalogue one that stands for a file (``virtual``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from tests.servers.lm_studio import Stored

Link = Literal["never", "off", "on", "no account"]

BUNDLED = "text-embedding-"
"""How the key of a model for embeddings begins; the app brings one of these along."""


def install(
    home: Path, models: Iterable[Stored] = (), *, index: bool = True, link: Link = "never", listener: int = 0
) -> Path:
    """Write the folder of an app that has these models, as far as they are on this device; return it.

    ``index``: whether the app has written its index; ``listener``: the port for its own clients, if it is
    open; ``link``: what it has written of LM Link, ``never`` being nothing at all.
    """
    folder = home / ".lmstudio"
    internal = folder / ".internal"
    internal.mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    entries = [entry for model in models if model.device is None for entry in store(folder, model)]
    if index:
        _write(internal / "model-index-cache.json", {"models": entries, "badModels": [], "errors": []})
    if listener:
        _write(internal / "http-server.json", {"port": listener})
    if link in ("off", "on"):
        _write(internal / "lm-link-config.json", {"forceDisabled": link == "off"})
    if link != "never":
        status = "noAccess" if link == "no account" else "active"
        _write(internal / "lm-link-account-status-cache.json", {"accountStatus": status})
    return folder


def store(folder: Path, model: Stored, *, content: bytes = b"GGUF") -> list[dict[str, object]]:
    """Put a model's weights where the app would; return what its index says of them."""
    owner, slash, name = model.key.rpartition("/")
    bundled = name.startswith(BUNDLED)
    plain = name.removeprefix(BUNDLED).partition("@")[0]
    above = folder / ".internal" / "bundled-models" if bundled else folder / "models"
    publisher = "nomic-ai" if bundled else "lmstudio-community"
    place = above / publisher / f"{plain}-GGUF"
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"{plain}-{model.quantization or 'F16'}.gguf"
    file.write_bytes(content)
    identifier = f"{publisher}/{place.name}/{file.name}"
    concrete: dict[str, object] = {
        "indexedModelIdentifier": identifier,
        "defaultIdentifier": name.lower(),
        "containingDirAbsolutePath": str(place),
        "entryPoint": {"absPath": str(file)},
        "sourceDirectoryType": "bundled" if bundled else "user",
        "sizeBytes": model.size,
    }
    if not slash:
        return [concrete]
    hub = folder / "hub" / "models" / owner / name
    hub.mkdir(parents=True, exist_ok=True)
    (hub / "model.yaml").write_text(f"model: {model.key}\nbase:\n  - key: {publisher}/{place.name}\n")
    virtual: dict[str, object] = {
        "indexedModelIdentifier": model.key,
        "defaultIdentifier": model.key,
        "containingDirAbsolutePath": str(hub),
        "sourceDirectoryType": "hub",
        "sizeBytes": model.size,
        "virtual": {
            "baseChain": [model.key, identifier],
            "concreteModelIndexedModelIdentifier": identifier,
        },
    }
    return [concrete | {"defaultIdentifier": f"{plain}-file"}, virtual]


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document))
