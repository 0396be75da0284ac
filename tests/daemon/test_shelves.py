"""What lies on disk is known of a server that is down, and known anew for whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from hived_client.errors import NotReady
from tests.daemon.running import Running, configure, wait_until
from tests.servers.ollama_folder import MODEL, ModelsFolder, config_bytes, sha256


def add(folder: ModelsFolder, name: str) -> None:
    folder.write(name, config_bytes(), [(MODEL, sha256(name.encode()), 10)])


@pytest.mark.slow  # what was read just now is not read again for two seconds
def test_a_model_that_comes_while_its_server_is_down_is_known_to_who_asks_for_it(
    environment: dict[str, str], home: Path, unused_port: int
) -> None:
    """Something else may bring it: `hf download` where no vLLM runs, or another computer's copy."""
    folder = ModelsFolder(home / "models")
    add(folder, "old")
    environment |= {"OLLAMA_MODELS": str(folder.root)}
    configure(environment, {"ollama": {"api_base": f"http://127.0.0.1:{unused_port}"}})

    def asked() -> list[str]:
        with pytest.raises(NotReady):
            daemon.client.resolve("ollama/new")
        return sorted(model.name for model in daemon.client.world().world.endpoints[0].models or ())

    with Running(environment) as daemon:
        wait_until(lambda: asked() == ["old:latest"])
        add(folder, "new")
        wait_until(lambda: asked() == ["new:latest", "old:latest"])
