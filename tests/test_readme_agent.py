"""The README's examples for other programs, run to the letter."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from hived.cli.demo.speaking_model import write_speaking_model
from tests.cli.words import hived
from tests.daemon.running import Running, configure, wait_until
from tests.servers.llamacpp import LlamaCpp
from tests.servers.ollama import Ollama

PAGE = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
SECTION = PAGE.partition("\n## Run an agent\n")[2].partition("\n## ")[0]
AGENT, OPENAI, OLLAMA = re.findall(r"^```python\n(.*?)^```$", SECTION, re.S | re.M)
(SHORTEST,) = re.findall(r"^```json\n(.*?)^```$", SECTION, re.S | re.M)

pytestmark = pytest.mark.slow


def test_the_openai_package_finds_the_model(environment: dict[str, str], tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    write_speaking_model(model, say="Hello from here.", tool="look", arguments={})
    with LlamaCpp(model=model) as server:
        configure(environment, {"llamacpp": {"api_base": server.url}})
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            said = hived(
                environment, "exec", "--model", "llamacpp/tiny-agent", "--", sys.executable, "-c", OPENAI
            )
    assert (said.code, said.out) == (0, "Hello from here.\n"), said.err


def test_ollamas_own_client_finds_the_model(environment: dict[str, str]) -> None:
    with Ollama() as server:
        server.add("llama3:latest")
        configure(environment, {"ollama": {"api_base": server.url}})
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            said = hived(environment, "exec", "--model", "ollama/llama3", "--", sys.executable, "-c", OLLAMA)
            assert said.code == 0, said.err
            assert said.out.strip()
        assert ("POST", "/api/chat") in server.requests


def test_the_quick_start_runs_an_agent(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "my_agent").mkdir()
    (tmp_path / "my_agent/agent.json").write_text(SHORTEST)
    lines = "".join(f"    {line}\n" for line in AGENT.splitlines())
    shown = "    print(result.success, result.output)\nasyncio.run(main())\n"
    (tmp_path / "quick.py").write_text(f"import asyncio\nasync def main():\n{lines}{shown}")
    with Ollama() as server:
        server.add("llama3:latest")
        configure(environment, {"ollama": {"api_base": server.url}})
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            said = hived(
                environment | {"PWD": str(tmp_path)},
                *("exec", "--model", "ollama/llama3", "--", "sh", "-c"),
                f"cd {tmp_path} && {sys.executable} quick.py",
            )
    assert (said.code, said.out.split()[0]) == (0, "True"), said.err
