"""Ollama's models as they lie on disk: a manifest a model, and the blobs that it names.

A blob of weights is as long as it should be and holds nothing, so its name is not the sum of what is in
it, as a real one's would be. A manifest's digest is that of its bytes, as the real one's is.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
MODEL = "application/vnd.ollama.image.model"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config_bytes(
    *,
    family: str = "llama",
    parameter_size: str = "138K",
    quantization: str = "F16",
    context_length: int | None = None,
    capabilities: tuple[str, ...] | None = None,
    remote: tuple[str, str] | None = None,
) -> bytes:
    """The blob that says what a model is; ``remote`` is the host and the name of a cloud model."""
    told: dict[str, object] = {
        "model_format": "" if remote else "gguf",
        "model_family": family,
        "model_families": [family],
        "model_type": parameter_size,
        "file_type": quantization,
    }
    if remote is not None:
        told |= {"remote_host": remote[0], "remote_model": remote[1]}
    if capabilities is not None:
        told["capabilities"] = list(capabilities)
    if context_length is not None:
        told["context_length"] = context_length
    return json.dumps(told, separators=(",", ":")).encode()


def manifest_bytes(config: bytes, layers: list[tuple[str, str, int]]) -> bytes:
    """The manifest; a layer is its type, the hex of its digest and its length."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": f"sha256:{sha256(config)}", "size": len(config)},
            "layers": [
                {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}
                for kind, digest, size in layers
            ],
        },
        separators=(",", ":"),
    ).encode()


class ModelsFolder:
    """One folder of models."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifests = root / "manifests"
        self.blobs = root / "blobs"
        self.blobs.mkdir(parents=True, exist_ok=True)

    def manifest_path(self, name: str) -> Path:
        """Where a model's manifest lies: host, namespace, model and tag, with the defaults filled in."""
        path, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
        parts = path.split("/")
        parts = [*["registry.ollama.ai", "library"][: 3 - len(parts)], *parts]
        return self.manifests.joinpath(*parts, tag)

    def blob_path(self, digest: str) -> Path:
        return self.blobs / f"sha256-{digest}"

    def write(self, name: str, config: bytes, layers: list[tuple[str, str, int]]) -> Path:
        """Write a model, its manifest last, as a pull does; return where the manifest is."""
        self.blob_path(sha256(config)).write_bytes(config)
        for _, digest, size in layers:
            with self.blob_path(digest).open("wb") as file:
                file.truncate(size)
        path = self.manifest_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(manifest_bytes(config, layers))
        return path

    def remove(self, name: str) -> None:
        """Remove a model's manifest, the folders that it leaves empty, and the blobs nobody else names."""
        path = self.manifest_path(name)
        own = _digests(path)
        path.unlink()
        for folder in list(path.parents)[:3]:
            if any(folder.iterdir()):
                break
            folder.rmdir()
        others = {each for left in self.manifests.rglob("*") if left.is_file() for each in _digests(left)}
        for digest in own - others:
            self.blob_path(digest).unlink(missing_ok=True)


def _digests(manifest: Path) -> set[str]:
    told = json.loads(manifest.read_bytes())
    return {each["digest"].removeprefix("sha256:") for each in [told["config"], *told["layers"]]}
