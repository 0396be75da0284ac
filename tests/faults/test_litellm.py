"""What a call through LiteLLM can come to that one without it cannot. Most of these need LiteLLM."""

from __future__ import annotations

import importlib.util

import anyio.to_thread
import pytest

from hived_client.agent import litellm_calls
from hived_client.agent.litellm_calls import complete
from hived_client.agent.litellm_thread import import_litellm
from hived_client.agent.words import Request
from hived_client.errors import CallFailed
from hived_client.resolution import Target
from hived_client.vocabulary.faults import Fault
from tests.faults.provoking import provokes
from tests.servers.loopback import HttpLoopback, Reply
from tests.servers.loopback import Request as Asked
from tests.servers.ollama import Ollama

# What LiteLLM and its dependencies warn of while they are imported is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

HELLO = Request(messages=[{"role": "user", "content": "Hello"}])


class Overloaded(HttpLoopback):
    """A cloud that has no time."""

    def answer(self, request: Asked) -> Reply:
        body = b'{"error": {"message": "The engine is overloaded"}}'
        headers = (("content-type", "application/json"), ("content-length", str(len(body))))
        return Reply(status=400, headers=headers, body=body)


@pytest.fixture
def litellm() -> None:
    if importlib.util.find_spec("litellm") is None:  # importing it here would have it ask for a price list
        pytest.skip("LiteLLM is not installed")


async def failed(what: Target | str) -> Fault:
    with pytest.raises(CallFailed) as error:
        await complete(what, HELLO)
    return error.value.fault


@provokes("call.no_litellm", "a call that is to be made by LiteLLM, which is not installed")
async def test_it_is_not_there(monkeypatch: pytest.MonkeyPatch) -> Fault:
    monkeypatch.setattr(litellm_calls, "is_installed", lambda: False)
    return await failed("gpt-4o")


@provokes("call.astray", "an address that somebody set in LiteLLM for all of its calls")
async def test_another_address(litellm: None, monkeypatch: pytest.MonkeyPatch) -> Fault:
    module = await anyio.to_thread.run_sync(import_litellm)
    with Ollama() as server:
        server.add("qwen3:8b")
        monkeypatch.setattr(module, "api_base", "http://gpu-box.invalid:11434")
        target = Target(
            model="ollama_chat/qwen3:8b",
            api_base=server.url,
            endpoint="ollama",
            provider="ollama",
            name="qwen3:8b",
            extra={"num_ctx": 4096},
            facts={"litellm_provider": "ollama_chat", "mode": "chat"},
        )
        return await failed(target)


@provokes("cloud.unauthorised", "a cloud model, and no key in the environment")
async def test_no_key_of_the_cloud(litellm: None, monkeypatch: pytest.MonkeyPatch) -> Fault:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return await failed("gpt-4o")


@provokes("cloud.failed", "a cloud that answers with an error")
async def test_the_cloud_fails(litellm: None, monkeypatch: pytest.MonkeyPatch) -> Fault:
    with Overloaded() as cloud:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-user")
        monkeypatch.setenv("OPENAI_API_BASE", f"{cloud.url}/v1")
        return await failed("gpt-4o")
