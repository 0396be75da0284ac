"""llama.cpp's own caches, the newer one and the older one, as they lie on a disk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hived.providers.disk_llamacpp import flat_folder, hub_folder, read_models
from tests.providers.test_disk_huggingface import CONFIG, Hub


def test_both_caches_are_read_and_only_what_llamacpp_can_load(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
    hub = Hub(tmp_path / "hub")
    hub.add("u/q", "q-Q4_K_M.gguf")
    hub.add("u/weights", "a.safetensors", config=CONFIG)
    flat = Path(flat_folder(environment))
    assert flat == tmp_path / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "llama.cpp"
    flat.mkdir(parents=True)
    for name in (
        "ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q8_0.gguf",
        "ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q8_0.gguf.etag",
        "ggml-org_gemma-3-1b-it-GGUF_mmproj-model-f16.gguf",
        "u_big_big-Q4_0-00001-of-00002.gguf",
        "u_big_big-Q4_0-00002-of-00002.gguf",
        "u_half_half-Q4_0-00001-of-00002.gguf",
        "\x1b[2J.gguf",
    ):
        (flat / name).write_bytes(b"\0" * 10)
    found = {model.name: model for model in read_models(environment)}
    assert list(found) == [
        "ggml-org_gemma-3-1b-it-GGUF_gemma-3-1b-it-Q8_0",
        "u/q:Q4_K_M",
        "u_big_big-Q4_0",
        "u_half_half-Q4_0",
    ]
    assert (found["u_big_big-Q4_0"].size, found["u_big_big-Q4_0"].state) == (20, "unloaded")
    assert found["u_half_half-Q4_0"].state == "downloading"
    assert found["u_big_big-Q4_0"].file == str(flat / "u_big_big-Q4_0-00001-of-00002.gguf")
    assert found["u/q:Q4_K_M"].quantization == "Q4_K_M"


def test_its_own_variable_stands_for_both(tmp_path: Path) -> None:
    environment = {"HOME": "/nowhere", "LLAMA_CACHE": str(tmp_path)}
    assert (flat_folder(environment), hub_folder(environment)) == (str(tmp_path), str(tmp_path))
    Hub(tmp_path).add("u/q", "q-Q4_K_M.gguf")
    (tmp_path / "flat-Q8_0.gguf").write_bytes(b"\0")
    assert [model.name for model in read_models(environment)] == ["flat-Q8_0", "u/q:Q4_K_M"]


@pytest.mark.parametrize(
    "environment", [{}, {"HOME": ""}, {"HOME": "/nowhere"}, {"LLAMA_CACHE": "/dev/null"}]
)
def test_where_there_is_nothing_there_are_no_models(environment: dict[str, str]) -> None:
    assert read_models(environment) == ()
