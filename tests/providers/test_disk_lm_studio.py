"""LM Studio's folders are read as the app leaves them, and where the user has moved them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hived.providers.disk_lm_studio import models_folder, read_models, server_port, studio_folder
from hived_client.vocabulary.world import Model


def put(folder: Path, *files: str, size: int = 10, **documents: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file).write_bytes(b"\0" * size)
    for name, value in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(value))


def test_a_folder_with_one_gguf_is_a_model_with_the_folders_names(tmp_path: Path) -> None:
    put(tmp_path / "lmstudio-community" / "Qwen3-8B-GGUF", "Qwen3-8B-Q4_K_M.gguf", "mmproj-F16.gguf")
    (model,) = read_models(str(tmp_path))
    assert model == Model(
        name="lmstudio-community/Qwen3-8B-GGUF",
        file=str(tmp_path / "lmstudio-community" / "Qwen3-8B-GGUF" / "Qwen3-8B-Q4_K_M.gguf"),
        state="unloaded",
        size=10,
        quantization="Q4_K_M",
    )


def test_several_ggufs_are_several_models_and_shards_are_one(tmp_path: Path) -> None:
    put(tmp_path / "a" / "b", "m-Q4_K_M.gguf", "m-Q8_0.gguf")
    put(tmp_path / "a" / "c", "m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf")
    put(tmp_path / "a" / "d", "m-Q8_0-00001-of-00002.gguf")
    found = [(model.name, model.size, model.state) for model in read_models(str(tmp_path))]
    assert found == [
        ("a/b:Q4_K_M", 10, "unloaded"),
        ("a/b:Q8_0", 10, "unloaded"),
        ("a/c", 20, "unloaded"),
        ("a/d", 10, "downloading"),
    ]


def test_a_folder_of_mlx_weights_is_one_model(tmp_path: Path) -> None:
    config = {"quantization": {"bits": 4, "group_size": 64}, "max_position_embeddings": 40960}
    folder = tmp_path / "mlx-community" / "Qwen3-8B-4bit"
    put(folder, "a.safetensors", "b.safetensors", config=config)
    assert read_models(str(tmp_path)) == (
        Model(
            name="mlx-community/Qwen3-8B-4bit",
            file=str(folder),
            state="unloaded",
            size=20,
            quantization="4bit",
            context=40960,
        ),
    )


def test_what_is_no_model_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "a" / "empty")
    put(tmp_path / "a" / "bad\nname", "m-Q8_0.gguf")
    put(tmp_path / "a" / "half", "m-Q8_0.gguf.part")
    put(tmp_path / "a" / "odd", "w.safetensors")
    put(tmp_path / "elsewhere-of-here" / "good", "m-Q8_0.gguf")
    (tmp_path / "stray.gguf").touch()
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere-of-here")
    (tmp_path / "a" / "linked").symlink_to(tmp_path / "elsewhere-of-here" / "good")
    assert [model.name for model in read_models(str(tmp_path))] == ["elsewhere-of-here/good"]
    assert read_models(str(tmp_path / "nowhere")) == ()
    assert read_models("bad\0name") == ()


def test_a_file_that_is_a_link_elsewhere_is_not_this_folders(tmp_path: Path) -> None:
    put(tmp_path / "outside", "m-Q4_0.gguf")
    put(tmp_path / "models" / "a" / "b", "m-Q8_0.gguf")
    (tmp_path / "models" / "a" / "b" / "n-Q4_0.gguf").symlink_to(tmp_path / "outside" / "m-Q4_0.gguf")
    assert [model.quantization for model in read_models(str(tmp_path / "models"))] == ["Q8_0"]


def test_its_own_folder_is_where_the_pointer_says_else_the_old_else_the_new(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    assert studio_folder(environment) == str(tmp_path / ".lmstudio")
    (tmp_path / ".cache" / "lm-studio").mkdir(parents=True)
    assert studio_folder(environment) == str(tmp_path / ".cache" / "lm-studio")
    pointer = tmp_path / ".lmstudio-home-pointer"
    pointer.write_text("/data/lm-studio\n")
    assert studio_folder(environment) == "/data/lm-studio"
    for useless in (b"", b"relative", b"\xff\xfe", b"/a\nb"):
        pointer.write_bytes(useless)
        assert studio_folder(environment) == str(tmp_path / ".cache" / "lm-studio")
    assert not (tmp_path / ".lmstudio").exists()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"downloadsFolder": "/big/models"}, True),
        ({"downloadsFolder": "models"}, False),
        ([], False),
        (5, False),
    ],
)
def test_the_models_may_have_been_moved(tmp_path: Path, settings: object, named: bool) -> None:
    assert models_folder(str(tmp_path)) == str(tmp_path / "models")
    put(tmp_path, settings=settings)
    assert models_folder(str(tmp_path)) == ("/big/models" if named else str(tmp_path / "models"))


@pytest.mark.parametrize(
    ("told", "port"),
    [({"port": 4321}, 4321), ({"port": 70000}, None), ({"port": "x"}, None), ({}, None), ([], None)],
)
def test_the_servers_last_port_is_remembered(tmp_path: Path, told: object, port: int | None) -> None:
    assert server_port(str(tmp_path)) is None
    (tmp_path / ".internal").mkdir()
    (tmp_path / ".internal" / "http-server-config.json").write_text(json.dumps(told))
    assert server_port(str(tmp_path)) == port
