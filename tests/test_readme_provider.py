"""The README's page on adding a provider, followed to the letter; only the ports are the test's own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from hived_client.vocabulary.world import Endpoint
from tests.daemon.running import Running, wait_until, write_configuration
from tests.daemon.test_plugins import plainly
from tests.servers.emulators import Emulator, Table

PAGE = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
SECTION = PAGE.partition("\n## Adding a provider\n")[2].partition("\n## ")[0]
BLOCKS = dict.fromkeys(["json", "sh"], "") | dict(
    re.findall(r"^```(json|sh)\n(.*?)^```$", SECTION, re.S | re.M)
)
FILES = dict(re.findall(r"^`([^`\n]+)`:\n\n```(?:toml|python)\n(.*?)^```$", SECTION, re.S | re.M))

pytestmark = pytest.mark.slow


def moved(text: str, port: int, to: int) -> str:
    """Return a text with a port changed: those that the page names may be taken on this machine."""
    assert str(port) in text
    return text.replace(str(port), str(to))


def test_a_server_of_a_known_dialect_is_one_entry(environment: dict[str, str]) -> None:
    models = {
        "object": "list",
        "data": [{"id": "qwen/qwen3-8b", "owned_by": "sglang", "max_model_len": 40960}],
    }
    with Running(environment) as daemon, Emulator(table={"/v1/models": models}) as server:
        write_configuration(environment, moved(BLOCKS["json"], 30000, server.port))
        (name,) = json.loads(BLOCKS["json"])["providers"]

        def is_ready() -> bool:
            endpoints = daemon.client.world().world.endpoints
            return any(e.name == name and e.state == "ready" for e in endpoints)

        wait_until(is_ready)
        assert plainly(environment, f"{name}/qwen/qwen3-8b") == {
            "model": "openai/qwen/qwen3-8b",
            "api_base": f"{server.url}/v1",
            "api_key": "sk-no-key-required",
        }


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment in which hived is installed as it is here, and which a test may change."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    own = next((folder / "lib").glob("python*/site-packages"))
    # With `addsitedir`, so that an editable installation is followed too.
    parent = sysconfig.get_path("purelib")
    (own / "parent.pth").write_text(f"import site; site.addsitedir({parent!r})\n")
    script = folder / "bin" / "hived"  # as pip makes it
    script.write_text(f"#!{folder}/bin/python\nimport sys\nfrom hived.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return folder


def test_a_server_with_an_api_of_its_own_is_one_file(
    environment: dict[str, str], home: Path, installation: Path
) -> None:
    table: Table = {"/toy": {"toy": "1.2", "models": ["model"]}}
    commands = BLOCKS["sh"].strip().splitlines()
    assert commands == ["pip install ./hived-toy", "hived serve &", "hived resolve toy/model"]
    assert sorted(FILES) == ["hived-toy/hived_toy.py", "hived-toy/pyproject.toml"]
    there = environment | {"PATH": f"{installation}/bin{os.pathsep}{environment['PATH']}"}
    there |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP"))}

    def follow(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=home,
            env=there,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    with contextlib.ExitStack() as until_it_ends:
        server = until_it_ends.enter_context(Emulator(table=table))
        for path, text in FILES.items():
            place = home / path
            place.parent.mkdir(exist_ok=True)
            place.write_text(moved(text, 7333, server.port) if path.endswith(".py") else text)
        follow(commands[0])
        (home / ".toy" / "models" / "on-disk").mkdir(parents=True)
        with Running(there, python=str(installation / "bin" / "python")) as daemon:

            def toy() -> Endpoint:
                return next(e for e in daemon.client.world().world.endpoints if e.name == "toy")

            wait_until(lambda: toy().state == "ready")
            assert follow(commands[2]).startswith("toy/model can be called\n")
            # What the page promises of clients that have never seen the plug-in.
            assert plainly(environment, "toy/model") == {
                "model": "openai/model",
                "api_base": f"{server.url}/v1",
                "api_key": "sk-no-key-required",
            }
            assert daemon.client.world().world.problems == ()
            assert (toy().version, toy().source) == ("1.2", "default")
            follow(
                "python -c 'from hived_toy import TOY; from hived.providers.base import check; check(TOY)'"
            )
            until_it_ends.close()
            wait_until(lambda: [model.name for model in toy().models or ()] == ["on-disk"])
            assert toy().state == "down"


def test_the_page_s_own_files_are_what_their_names_say() -> None:
    assert all(len(text.splitlines()) < 60 for text in FILES.values())
    compile(FILES["hived-toy/hived_toy.py"], "hived_toy.py", "exec")
