"""Ollama's models are read from disk as the server lists them, whatever else lies there."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hived.providers import disk_ollama
from hived.providers.disk_ollama import MOST_BYTES, manifest_folders, model_folders, read_models
from hived.providers.http import Http
from hived.providers.ollama import Ollama
from hived_client.vocabulary.world import Endpoint, Model
from tests.servers import ollama
from tests.servers.ollama_folder import MODEL, ModelsFolder, config_bytes

NAMES = ("llama3.2", "llama3.2:1b", "user/m:q4", "hf.co/Org/Repo:Q4_K_M", "registry.example:5000/a/b:c")
LAYER = (MODEL, "a" * 64, 1000)
CONFIG = config_bytes(parameter_size="3.2B", quantization="Q4_K_M")


@pytest.fixture
def folder(tmp_path: Path) -> ModelsFolder:
    return ModelsFolder(tmp_path / "models")


def read(folder: ModelsFolder) -> dict[str, Model]:
    return {model.name: model for model in read_models([str(folder.root)])}


@pytest.mark.anyio
async def test_what_is_read_is_what_the_server_lists(tmp_path: Path) -> None:
    with ollama.Ollama(folder=tmp_path) as server:
        for n, name in enumerate(NAMES):
            # Of one that is said to lack tools the server is asked for more than its list.
            able = ("completion", "tools")
            server.add(
                name,
                size=1000 + n,
                parameter_size="26B-A4B",
                quantization="Q8_0",
                capabilities=able,
                modified=n,
            )
        server.add("big:cloud", remote=("https://ollama.com:443", "big"), size=0, modified=9)
        http = Http()
        endpoint = Endpoint(name="o", provider="ollama", url=server.url, source="default")
        listed = await Ollama(http, {}).look(endpoint, thorough=True)
        await http.aclose()
    for n, name in enumerate((*NAMES, "big:cloud")):
        os.utime(ModelsFolder(tmp_path).manifest_path(name), (n, n))
    assert read_models([str(tmp_path)]) == getattr(listed, "models", None)


def test_a_model_has_the_digest_of_its_manifest_and_the_length_of_its_parts(folder: ModelsFolder) -> None:
    path = folder.write("m", CONFIG, [LAYER])
    assert read(folder) == {
        "m:latest": Model(
            name="m:latest",
            aliases=("m",),
            state="unloaded",
            digest=hashlib.sha256(path.read_bytes()).hexdigest(),
            size=1000 + len(CONFIG),
            quantization="Q4_K_M",
            parameters=3_200_000_000,
        )
    }


def test_a_model_that_may_have_tools_in_its_own_template_is_not_said_to_lack_them(
    folder: ModelsFolder,
) -> None:
    for name, told in (
        ("may", ("completion",)),
        ("does", ("completion", "tools")),
        ("embeds", ("embedding",)),
    ):
        folder.write(name, config_bytes(capabilities=told), [LAYER])
    found = {name: model.capabilities for name, model in read(folder).items()}
    assert found == {
        "may:latest": None,
        "does:latest": ("completion", "tools"),
        "embeds:latest": ("embedding",),
    }


def test_the_newest_is_first_and_of_two_roots_the_first_wins(tmp_path: Path) -> None:
    first, second = ModelsFolder(tmp_path / "1"), ModelsFolder(tmp_path / "2")
    os.utime(first.write("old", CONFIG, [LAYER]), (1, 1))
    os.utime(first.write("both", CONFIG, [LAYER]), (2, 2))
    os.utime(second.write("BOTH", CONFIG, []), (9, 9))
    os.utime(second.write("new", CONFIG, [LAYER]), (3, 3))
    found = read_models([str(first.root), str(second.root), str(first.root)])
    assert [model.name for model in found] == ["new:latest", "both:latest", "old:latest"]


@pytest.mark.parametrize("damage", ["missing", "short", "folder", "config"])
def test_a_model_of_which_a_part_is_missing_is_marked(folder: ModelsFolder, damage: str) -> None:
    folder.write("m", CONFIG, [LAYER])
    folder.write("whole", config_bytes(), [(MODEL, "b" * 64, 10)])
    blob = folder.blob_path(hashlib.sha256(CONFIG).hexdigest() if damage == "config" else LAYER[1])
    blob.unlink()
    if damage == "short":
        blob.write_bytes(b"x" * 999)
    if damage == "folder":
        blob.mkdir()
    found = read(folder)
    model = found["m:latest"]
    assert model.state == "failed"
    assert model.fault is not None
    assert (model.fault.code, model.fault.hint) == ("model.incomplete", "ollama pull m:latest")
    assert model.fault.fields == {"model": "m:latest", "missing": 1, "parts": 2}
    assert (found["whole:latest"].state, found["whole:latest"].fault) == ("unloaded", None)


MANIFEST = b'{"schemaVersion":2,"config":{"digest":"sha256:%s","size":1},"layers":[]}' % (b"a" * 64)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b'{"layers":[]}',
        b'{"config":1}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"config":' + b" " * MOST_BYTES + b"{}}",
    ],
    ids=range(8),
)
def test_a_manifest_that_is_none_hides_no_other(folder: ModelsFolder, raw: bytes) -> None:
    folder.write("good", CONFIG, [LAYER])
    folder.write("bad", CONFIG, [LAYER]).write_bytes(raw)
    assert list(read(folder)) == ["good:latest"]


@pytest.mark.parametrize(
    "layers",
    [
        1,
        [1, None, "x"],
        [{"digest": "sha256:../../../../etc/passwd", "size": 1}],
        [{"digest": "sha256:" + "A" * 64, "size": 1}],
        [{"digest": None, "size": -1}],
        [{"digest": "sha256:" + "c" * 64, "size": 10**30}],
        [{"digest": "sha256:" + "c" * 64, "size": 2**53}] * 3,
    ],
    ids=range(7),
)
def test_no_layer_can_raise_or_lead_out_of_the_folder(folder: ModelsFolder, layers: object) -> None:
    path = folder.write("m", CONFIG, [])
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"layers": layers}))
    model = read(folder)["m:latest"]
    assert model.size is None or 0 < model.size <= 2**53


@pytest.mark.parametrize(
    "config", [b"", b"[]", b'{"model_type":[1],"file_type":"\\u001b[2J","capabilities":{}}']
)
def test_a_description_that_is_none_leaves_the_facts_unknown(folder: ModelsFolder, config: bytes) -> None:
    folder.write("m", config, [LAYER])
    model = read(folder)["m:latest"]
    assert (model.state, model.parameters, model.quantization) == ("unloaded", None, None)
    assert model.capabilities is None


def test_a_name_that_is_none_of_ollamas_is_passed_over(folder: ModelsFolder) -> None:
    good = folder.write("good", CONFIG, [LAYER])
    for name in (".DS_Store", "a b", "\x1b[2J", "-x", "x\u202ey", "long" * 60):
        (good.parent / name).write_bytes(good.read_bytes())
    (good.parent / "deeper").mkdir()
    (good.parent / "deeper" / "x").write_bytes(good.read_bytes())
    (folder.manifests / "short").write_bytes(good.read_bytes())
    (folder.manifests / "host" / "space").mkdir(parents=True)
    (folder.manifests / "host" / "space" / "model").write_bytes(good.read_bytes())
    assert list(read(folder)) == ["good:latest"]


def test_no_link_is_followed_out_of_the_folder_but_the_folder_may_be_one(
    folder: ModelsFolder, tmp_path: Path
) -> None:
    good = folder.write("good", CONFIG, [LAYER])
    outside = ModelsFolder(tmp_path / "outside")
    secret = outside.write("secret", CONFIG, [LAYER])
    (good.parent / "link").symlink_to(secret)
    (good.parent / "again").symlink_to(good)
    (good.parent / "dangling").symlink_to(tmp_path / "nothing")
    (good.parent / "round").symlink_to(good.parent / "round")
    (folder.manifests / "other").symlink_to(outside.manifests / "registry.ollama.ai")
    (tmp_path / "link").symlink_to(folder.root)
    found = read_models([str(tmp_path / "link")])
    assert sorted(model.name for model in found) == ["good:again", "good:latest"]


def test_a_description_outside_the_folder_is_not_read(folder: ModelsFolder, tmp_path: Path) -> None:
    folder.write("m", CONFIG, [LAYER])
    blob = folder.blob_path(hashlib.sha256(CONFIG).hexdigest())
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    model = read(folder)["m:latest"]
    assert (model.state, model.parameters) == ("unloaded", None)


def test_a_pipe_is_not_waited_for(folder: ModelsFolder) -> None:
    good = folder.write("good", CONFIG, [LAYER])
    os.mkfifo(good.parent / "pipe")
    assert list(read(folder)) == ["good:latest"]


@contextmanager
def nobody() -> Iterator[None]:
    """Be nobody for a while, where the tests are run by root, who may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_what_may_not_be_read_is_passed_over() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        Path(home).chmod(0o755)
        folder = ModelsFolder(Path(home))
        folder.write("good", CONFIG, [LAYER])
        folder.write("locked", CONFIG, [LAYER]).chmod(0)
        hidden = folder.write("user/hidden", CONFIG, [LAYER]).parent.parent
        hidden.chmod(0)
        try:
            with nobody():
                assert list(read(folder)) == ["good:latest"]
        finally:
            hidden.chmod(0o700)


def test_only_so_many_entries_are_looked_at(folder: ModelsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(30):
        folder.write(f"m:{n}", CONFIG, [LAYER])
    monkeypatch.setattr(disk_ollama, "MOST_ENTRIES", 13)
    assert len(read(folder)) == 10  # three folders lead there


def test_only_so_many_bytes_are_read(folder: ModelsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(5):
        size = folder.write(f"m:{n}", CONFIG, [LAYER]).stat().st_size
    monkeypatch.setattr(disk_ollama, "MOST_READ", 2 * (size + len(CONFIG)))
    assert len(read(folder)) == 2


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert read_models([str(tmp_path / "none"), "/proc/self/mem"]) == ()


@pytest.mark.parametrize(
    ("environment", "folders"),
    [
        ({}, ["/usr/share/ollama/.ollama/models"]),
        ({"HOME": "/h"}, ["/h/.ollama/models", "/usr/share/ollama/.ollama/models"]),
        (
            {"HOME": "/h", "OLLAMA_MODELS": ' "/data/m/" '},
            ["/data/m", "/h/.ollama/models", "/usr/share/ollama/.ollama/models"],
        ),
        (
            {"HOME": "/h", "OLLAMA_MODELS": "/h/.ollama/models"},
            ["/h/.ollama/models", "/usr/share/ollama/.ollama/models"],
        ),
    ],
)
def test_models_are_sought_where_a_server_of_the_user_or_the_system_keeps_them(
    environment: dict[str, str], folders: list[str]
) -> None:
    assert list(model_folders(environment)) == folders
    assert list(manifest_folders(environment)) == [f"{folder}/manifests" for folder in folders]
