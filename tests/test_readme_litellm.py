"""The README's example for LiteLLM, run to the letter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon.running import Running, configure, llamacpp_at, wait_until
from tests.servers.llamacpp import SAY, LlamaCpp

PAGE = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
SECTION = PAGE.partition("\n## Ask\n")[2].partition("\n## ")[0]
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```$", SECTION, re.S | re.M)

pytestmark = pytest.mark.litellm


def test_litellm_calls_the_model_with_what_resolve_gives(environment: dict[str, str]) -> None:
    with LlamaCpp() as server:
        configure(environment, llamacpp_at(server.url))
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
            done = subprocess.run(
                [sys.executable, "-c", EXAMPLE],
                env=environment | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
    assert done.stdout.strip().endswith(SAY), done.stderr
