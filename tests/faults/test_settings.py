"""What is set so that it works here and nowhere else."""

from __future__ import annotations

from pathlib import Path

from hived_client.vocabulary.faults import Fault
from tests.faults.asking import Shared, at, problem, settled
from tests.faults.provoking import provokes


@provokes("address.unspecified", "OLLAMA_HOST has Ollama listen at every address, and is what clients call")
def test_a_variable_to_listen(home: Path) -> Fault:
    with settled(home, OLLAMA_HOST="0.0.0.0") as daemon:
        daemon.client.reload()
        found = problem("address.unspecified", daemon.client)
        assert found.hint == "export OLLAMA_HOST=127.0.0.1"
        (endpoint,) = daemon.client.world().world.endpoints
        assert endpoint.url == "http://127.0.0.1:11434"
        return found


@provokes("address.unspecified", "the configuration gives an address to listen at")
def test_an_entry_to_listen(shared: Shared) -> Fault:
    client = shared.expecting({"vllm": at("http://[::]:8000/v1")})
    return problem("address.unspecified", client)


@provokes("configuration.invalid", "a num_ctx that is no number of tokens")
def test_no_number_of_tokens(shared: Shared) -> Fault:
    client = shared.expecting({"ollama": at("http://127.0.0.1:9", num_ctx="16k")})
    return problem("configuration.invalid", client)
