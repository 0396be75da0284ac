"""The hub's cache is read as it lies on a disk: links, shards, half downloads, and what is not ours."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hived.providers.disk_huggingface import (
    files_below,
    hub_folder,
    quantization_in,
    read_models,
)
from hived_client.vocabulary.world import Model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {"architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 40960, "torch_dtype": "bfloat16"}


class Hub:
    """A cache that is laid out as the hub's library does it: blobs, and snapshots that link to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def repository(self, name: str, kind: str = "models") -> Path:
        return self.folder / f"{kind}--{name.replace('/', '--')}"

    def add(self, name: str, *files: str, size: int = 10, links: bool = True, **documents: object) -> Path:
        """Add files to a repository's snapshot; ``documents`` are JSON files by stem, dots as ``__``."""
        path = self.repository(name)
        snapshot = path / "snapshots" / COMMIT
        for folder in (path / "refs", path / "blobs", snapshot):
            folder.mkdir(parents=True, exist_ok=True)
        (path / "refs" / "main").write_text(COMMIT)
        contents = dict.fromkeys(files, b"\0" * size)
        contents |= {f"{k.replace('__', '.')}.json": json.dumps(v).encode() for k, v in documents.items()}
        for file, content in contents.items():
            place = snapshot / file
            place.parent.mkdir(parents=True, exist_ok=True)
            if links:
                blob = path / "blobs" / f"sha-{file.replace('/', '-')}"
                blob.write_bytes(content)
                place.symlink_to(os.path.relpath(blob, place.parent))
            else:
                place.write_bytes(content)
        return snapshot


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def names(hub: Hub) -> list[str]:
    return [model.name for model in read_models(str(hub.folder))]


@pytest.mark.parametrize("links", [True, False])
def test_a_repository_of_safetensors_is_one_model(hub: Hub, links: bool) -> None:
    snapshot = hub.add("Qwen/Qwen3-8B", "a.safetensors", "b.safetensors", links=links, config=CONFIG)
    assert read_models(str(hub.folder)) == (
        Model(
            name="Qwen/Qwen3-8B",
            file=str(snapshot),
            state="unloaded",
            digest=COMMIT,
            size=20,
            quantization="bfloat16",
            context=40960,
        ),
    )


def test_the_index_and_the_part_for_text_are_believed(hub: Hub) -> None:
    config = {
        "text_config": {"max_position_embeddings": 8192},
        "quantization_config": {"quant_method": "awq", "bits": 4},
    }
    index = {"metadata": {"total_size": 5_000_000_000}, "weight_map": {"x": "a.safetensors"}}
    hub.add("a/b", "a.safetensors", config=config, model__safetensors__index=index)
    (model,) = read_models(str(hub.folder))
    assert (model.context, model.quantization, model.size) == (8192, "awq-4bit", 5_000_000_000)


def test_each_gguf_is_a_model_but_helpers_and_later_shards(hub: Hub) -> None:
    files = (
        "qwen3-8b-Q4_K_M.gguf",
        "qwen3-8b-UD-Q2_K_XL.gguf",
        "mmproj-F16.gguf",
        "mtp-qwen3.gguf",
        "BF16/qwen3-8b-BF16-00001-of-00003.gguf",
        "BF16/qwen3-8b-BF16-00002-of-00003.gguf",
        "BF16/qwen3-8b-BF16-00003-of-00003.gguf",
        "odd.gguf",
        "README.md",
    )
    snapshot = hub.add("u/q", *files)
    found = {model.name: model for model in read_models(str(hub.folder))}
    assert list(found) == ["u/q:BF16", "u/q:Q4_K_M", "u/q:UD-Q2_K_XL", "u/q:odd"]
    assert found["u/q:BF16"].size == 30
    assert found["u/q:Q4_K_M"].file == str(snapshot / "qwen3-8b-Q4_K_M.gguf")
    assert found["u/q:odd"].quantization is None
    assert {model.state for model in found.values()} == {"unloaded"}


def test_what_is_not_whole_is_still_downloading(hub: Hub) -> None:
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    hub.add("half/weights", "a.safetensors", config=CONFIG, model__safetensors__index=index)
    (hub.repository("half/weights") / "blobs" / "sha-b.incomplete").touch()
    hub.add("half/shards", "m-Q8_0-00001-of-00002.gguf")
    snapshot = hub.add("half/link", "a.safetensors", config=CONFIG)
    (snapshot / "b.safetensors").symlink_to("../../blobs/not-yet")
    (hub.repository("half/link") / "blobs" / "not-yet.incomplete").touch()
    hub.add("whole/weights", "a.safetensors", config=CONFIG)
    (hub.repository("whole/weights") / "blobs" / "other.incomplete").touch()
    states = {model.name: model.state for model in read_models(str(hub.folder))}
    assert states == {
        "half/link": "downloading",
        "half/shards:Q8_0": "downloading",
        "half/weights": "downloading",
        "whole/weights": "unloaded",
    }


def test_what_is_no_model_is_passed_over(hub: Hub) -> None:
    hub.add("a/tokenizer", config=CONFIG)
    hub.add("a/weights-alone", "a.safetensors")
    hub.repository("a/data", "datasets").mkdir()
    hub.repository("a/empty").mkdir()
    (hub.folder / "version.txt").write_text("1")
    (hub.folder / "models--a--file").write_text("x")
    (hub.folder / "models--bad\nname").mkdir()
    hub.add("a/model", "a.safetensors", config=CONFIG)
    assert names(hub) == ["a/model"]


@pytest.mark.parametrize("main", ["", "main", "../../../../etc", COMMIT[:39], "f" * 40])
def test_a_reference_that_is_no_commit_leads_nowhere(hub: Hub, main: str) -> None:
    hub.add("a/b", "a.safetensors", config=CONFIG)
    (hub.repository("a/b") / "refs" / "main").write_text(main)
    assert names(hub) == []


def test_no_link_is_followed_out_of_its_repository(hub: Hub, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.gguf").write_bytes(b"x")
    snapshot = hub.add("a/b", "mine-Q8_0.gguf")
    (snapshot / "theirs-Q4_0.gguf").symlink_to(outside / "secret.gguf")
    (snapshot / "folder").symlink_to(outside)
    (snapshot / "loop").symlink_to(snapshot)
    assert names(hub) == ["a/b:Q8_0"]


@pytest.mark.parametrize(
    "config", [b"", b"{", b"[]", b"[" * 100_000, b'{"max_position_embeddings":"many"}', b'{"text_config":[]}']
)
def test_a_configuration_that_cannot_be_read_hides_nothing(hub: Hub, config: bytes) -> None:
    hub.add("a/good", "a.safetensors", config=CONFIG)
    snapshot = hub.add("a/odd", "a.safetensors")
    (snapshot / "config.json").write_bytes(config)
    found = {model.name: model.context for model in read_models(str(hub.folder))}
    assert found == {"a/good": 40960, "a/odd": None}


def test_pipes_and_missing_folders_stop_nobody(hub: Hub) -> None:
    snapshot = hub.add("a/b", "a-Q8_0.gguf")
    os.mkfifo(snapshot / "pipe-Q4_0.gguf")
    (hub.repository("a/c") / "refs").mkdir(parents=True)
    os.mkfifo(hub.repository("a/c") / "refs" / "main")
    assert names(hub) == ["a/b:Q8_0"]
    assert read_models(str(hub.folder / "nowhere")) == ()
    assert read_models("/dev/null") == ()
    assert read_models("bad\0name") == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_hides_nothing(hub: Hub) -> None:
    hub.add("a/good", "a.safetensors", config=CONFIG)
    hub.add("a/shut", "a.safetensors", config=CONFIG)
    hub.repository("a/shut").chmod(0)
    try:
        assert names(hub) == ["a/good"]
    finally:
        hub.repository("a/shut").chmod(0o700)


def test_only_so_many_files_are_looked_at(tmp_path: Path) -> None:
    for n in range(12):
        (tmp_path / f"{n:05}").touch()
    found = files_below(str(tmp_path), inside=str(tmp_path), most=10)
    assert list(found) == [f"{n:05}" for n in range(10)]


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HOME": "/h"}, "/h/.cache/huggingface/hub"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HOME": "/h", "HF_HOME": "/f", "XDG_CACHE_HOME": "/c"}, "/f/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/g", "HF_HOME": "/f"}, "/g"),
        ({"HF_HUB_CACHE": "/e", "HUGGINGFACE_HUB_CACHE": "/g"}, "/e"),
        ({"HF_HUB_CACHE": "", "HF_HOME": "/f"}, "/f/hub"),
    ],
)
def test_the_cache_is_where_the_hubs_own_library_looks(environment: dict[str, str], folder: str) -> None:
    assert hub_folder(environment) == folder


@pytest.mark.parametrize(
    ("stem", "quantization"),
    [
        ("qwen3-8b-Q4_K_M", "Q4_K_M"),
        ("Llama-3.2-1B-Instruct-q8_0", "Q8_0"),
        ("x.IQ3_XXS", "IQ3_XXS"),
        ("gpt-oss-20b-mxfp4", "MXFP4"),
        ("model-F16", "F16"),
        ("model", None),
        ("Q4_K_M-model", None),
        ("qwen3", None),
    ],
)
def test_a_quantisation_is_read_from_the_end_of_a_name(stem: str, quantization: str | None) -> None:
    assert quantization_in(stem) == quantization
