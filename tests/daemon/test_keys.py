"""Whose key it is: hived looks with the one in its own environment, and a caller calls with theirs."""

from __future__ import annotations

import contextlib

import openai

from hived_client.doors.sync import Client
from tests.daemon.running import DEADLINE, Running, configure, wait_until
from tests.servers.vllm import ALIAS, Vllm


def test_a_caller_with_the_key_calls_a_server_that_is_closed_to_hived(environment: dict[str, str]) -> None:
    """A service has not the variables of its user's shell."""
    with Vllm() as server:
        server.require_key("sesame")
        configure(environment, {"vllm": {"api_base": server.url, "api_key_env_var": "LAB_KEY"}})
        with Running(environment) as daemon:
            wait_until(lambda: daemon.client.world().world.endpoints[0].state == "unauthorised")
            keyed = environment | {"LAB_KEY": "sesame"}
            with contextlib.closing(Client(daemon.where, environment=keyed)) as client:
                target = client.resolve(f"vllm/{ALIAS}", timeout=DEADLINE)
            assert [warning.code for warning in target.warnings] == ["model.unverified"]
            with openai.OpenAI(base_url=target.api_base, api_key=target.api_key, max_retries=0) as calling:
                answer = calling.chat.completions.create(
                    model=target.name, messages=[{"role": "user", "content": "hi"}], max_tokens=2
                )
            assert answer.choices[0].message.content
            assert "sesame" not in daemon.log
