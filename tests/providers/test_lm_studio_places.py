"""Which models of LM Studio are certainly run on this device: what vouches for one, and what does not."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import anyio
import pytest

from hived.providers import lm_studio_places
from hived.providers.lm_studio_places import UNREAD, Here, Places, read_here, unplaced
from tests.servers.lm_studio import EMBEDDER, GEMMA, QWEN, Stored, usual_models
from tests.servers.lm_studio_home import install, store

KEYS = [GEMMA, QWEN, EMBEDDER]
PLAIN = Stored("meta-llama-3.1-8b-instruct")
"""A model that is no name of the catalogue: its key is made of its file's name."""


def code(here: Here, name: str, size: int | None = None) -> str | None:
    problem = unplaced(name, (name,), size, here)
    return None if problem is None else problem.code


def why(here: Here, name: str) -> str:
    problem = unplaced(name, (name,), None, here)
    assert problem is not None
    return problem.message


@pytest.mark.parametrize("index", [True, False])
def test_every_model_of_an_ordinary_app_is_found(tmp_path: Path, index: bool) -> None:
    here = read_here(str(install(tmp_path, (*usual_models(), PLAIN), index=index)))
    for name in (*KEYS, PLAIN.key, *(key.upper() for key in KEYS), f"{QWEN}:2", f"{QWEN}@q4_k_m"):
        assert code(here, name) is None, name
    assert code(here, "text-embedding-nomic-embed-text-v1.5@q4_k_m") is None
    for other in ("openai/gpt-oss-20b", "qwen3", "google", "", "lmstudio-community"):
        assert code(here, other) == "model.maybe_linked", other


@pytest.mark.parametrize("index", [True, False])
def test_a_models_folder_that_was_moved_and_linked_to_is_read(tmp_path: Path, index: bool) -> None:
    folder = install(tmp_path, index=False)
    drive = tmp_path / "drive"
    (folder / "models").rmdir()
    drive.mkdir()
    (folder / "models").symlink_to(drive)
    entries = [entry for model in (*usual_models(), PLAIN) for entry in store(folder, model)]
    if index:
        (folder / ".internal" / "model-index-cache.json").write_text(json.dumps({"models": entries}))
    here = read_here(str(folder))
    assert [code(here, name) for name in (*KEYS, PLAIN.key)] == [None] * 4


def test_weights_that_are_gone_no_longer_vouch_whatever_the_index_says(tmp_path: Path) -> None:
    folder = install(tmp_path, usual_models())
    (weights,) = (folder / "models" / "lmstudio-community" / "qwen3-8b-GGUF").iterdir()
    weights.unlink()
    here = read_here(str(folder))
    assert code(here, QWEN) == "model.maybe_linked"
    assert code(here, GEMMA) is None


def test_a_name_of_the_catalogue_alone_does_not_vouch(tmp_path: Path) -> None:
    folder = install(tmp_path, usual_models())
    hub = folder / "hub" / "models" / "openai" / "gpt-oss-20b"
    hub.mkdir(parents=True)
    (hub / "model.yaml").write_text(
        "model: openai/gpt-oss-20b\nbase:\n  - key: lmstudio-community/gpt-oss-GGUF\n"
    )
    index = folder / ".internal" / "model-index-cache.json"
    document = json.loads(index.read_text())
    document["models"].append(
        {
            "indexedModelIdentifier": "openai/gpt-oss-20b",
            "containingDirAbsolutePath": str(hub),
            "virtual": {
                "concreteModelIndexedModelIdentifier": "lmstudio-community/gpt-oss-GGUF/gpt-oss.gguf"
            },
        }
    )
    index.write_text(json.dumps(document))
    assert code(read_here(str(folder)), "openai/gpt-oss-20b") == "model.maybe_linked"


def test_the_same_bytes_are_the_same_weights(tmp_path: Path) -> None:
    folder = install(tmp_path, index=False)
    place = folder / "models" / "somebody" / "odd"
    place.mkdir(parents=True)
    with open(place / "x-Q8_0.gguf", "wb") as file:
        file.truncate(5_000_001)
    here = read_here(str(folder))
    assert code(here, "renamed", 5_000_001) is None
    assert code(here, "renamed", 5_000_002) == code(here, "renamed") == "model.maybe_linked"


def test_where_there_is_an_index_the_same_size_is_no_proof(tmp_path: Path) -> None:
    folder = install(tmp_path, (Stored("org/tuned", size=5_000_001),))
    assert code(read_here(str(folder)), "org/other-tuning", 5_000_001) == "model.maybe_linked"


def test_small_sizes_say_nothing(tmp_path: Path) -> None:
    here = read_here(str(install(tmp_path, (Stored("a/b", size=4),))))
    assert code(here, "renamed", 4) == "model.maybe_linked"


def test_what_the_sibling_app_has_is_here_too(tmp_path: Path) -> None:
    folder = install(tmp_path, (PLAIN,), index=False)
    other = folder / "apps" / "bionic" / ".internal"
    other.mkdir(parents=True)
    entries = store(folder, Stored("z-org/z-model"))
    (other / "model-index-cache.json").write_text(json.dumps({"models": entries}))
    assert code(read_here(str(folder)), "z-org/z-model") is None


LINKS: list[tuple[str | None, str | None, bool]] = [
    (None, None, False),
    ("", "", False),
    ('{"forceDisabled":false}', None, False),
    ('{"forceDisabled":false}', '{"accountStatus":"active"}', True),
    ('{"forceDisabled":true}', '{"accountStatus":"active"}', False),
    ('{"json":{"forceDisabled":true}}', '{"json":{"accountStatus":"active"}}', False),
    (None, '{"accountStatus":"active"}', True),
    (None, '{"accountStatus":{"state":"new"}}', True),
    (None, '{"accountStatus":"notLoggedIn"}', False),
    (None, '{"accountStatus":"noAccess"}', False),
    (None, "{}", False),
    (None, "[]", True),
    (None, "half", True),
    ('{"forceDisabled":"yes"}', '{"accountStatus":"active"}', True),
    ("half", '{"accountStatus":"active"}', True),
]


@pytest.mark.parametrize(("config", "account", "linked"), LINKS)
@pytest.mark.parametrize("app", ["", "apps/bionic"])
def test_where_a_link_may_be_nothing_vouches(
    tmp_path: Path, config: str | None, account: str | None, linked: bool, app: str
) -> None:
    folder = install(tmp_path, usual_models())
    internal = folder / app / ".internal"
    internal.mkdir(parents=True, exist_ok=True)
    for name, text in (("config", config), ("account-status-cache", account)):
        if text is not None:
            (internal / f"lm-link-{name}.json").write_text(text)
    here = read_here(str(folder))
    assert here.is_linked is linked
    assert code(here, QWEN) == ("model.maybe_linked" if linked else None)
    if linked:
        assert "LM Link is in use" in why(here, QWEN)


@pytest.mark.parametrize(
    "index",
    [
        "",
        "null",
        "[]",
        "{",
        '{"models":5}',
        '{"models":[1,null,{},{"virtual":5},{"virtual":{}}]}',
        '{"models":[{"indexedModelIdentifier":"org/m","containingDirAbsolutePath":"."}]}',
        '{"models":[{"indexedModelIdentifier":"org/m","entryPoint":{"absPath":"\\u0000"}}]}',
        '{"models":[{"indexedModelIdentifier":"org/m","entryPoint":{"absPath":"/"},"autoIdentifiers":5}]}',
    ],
)
def test_an_index_that_cannot_be_used_does_not_vouch_and_hides_nothing(tmp_path: Path, index: str) -> None:
    folder = install(tmp_path, (PLAIN,), index=False)
    (folder / ".internal" / "model-index-cache.json").write_text(index)
    here = read_here(str(folder))
    assert code(here, PLAIN.key) is None
    assert code(here, "org/m") == "model.maybe_linked"


def test_without_a_folder_it_is_said_that_nothing_can_be_read(tmp_path: Path) -> None:
    here = read_here(str(tmp_path / "nobody"))
    assert "cannot be read" in why(here, QWEN)
    assert "cannot be read" in why(UNREAD, QWEN)


# Read in a thread, when something has changed.


@pytest.mark.anyio
async def test_the_disk_is_read_again_only_when_something_there_has_changed(tmp_path: Path) -> None:
    folder = install(tmp_path, usual_models())
    places = Places({"HOME": str(tmp_path)})
    first = await places.here()
    assert await places.here() is first
    assert places.reads == 1
    install(tmp_path, usual_models(), link="on")
    assert (await places.here()).is_linked
    new = folder / "models" / "somebody" / "new-GGUF"
    new.mkdir(parents=True)
    await places.here()
    (new / "new-Q8_0.gguf").write_bytes(b"GGUF")
    os.utime(new, ns=(1, 1))
    assert "somebody/new-gguf" in (await places.here()).names


@pytest.mark.anyio
async def test_a_disk_that_hangs_holds_nothing_up_and_costs_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, usual_models())
    monkeypatch.setattr(lm_studio_places, "DISK_TIMEOUT", 0.05)
    go_on, waiting = threading.Event(), []

    def hang(folder: str) -> lm_studio_places.Mark:
        waiting.append(folder)
        go_on.wait(600.0)
        return ()

    places = Places({"HOME": str(tmp_path)})
    monkeypatch.setattr(lm_studio_places, "_mark", hang)
    try:
        with anyio.fail_after(60.0):
            assert [await places.here() for _ in range(3)] == [UNREAD] * 3
        assert len(waiting) == 1
    finally:
        go_on.set()
    with anyio.fail_after(60.0):
        while places.reads == 0:  # noqa: ASYNC110 - the thread that was given up on comes to its end
            await anyio.sleep(0.01)
    assert code(await places.here(), QWEN) is None
