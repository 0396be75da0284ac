"""Servers that are not there, or not what they should be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from hived_client.doors.sync import Client
from hived_client.errors import HivedError
from hived_client.vocabulary.faults import Fault
from tests.daemon.running import DEADLINE, configure, wait_until
from tests.faults.asking import Shared, at, refusal, resolved, settled
from tests.faults.provoking import provokes
from tests.servers.loading import LlamaCppLoading
from tests.servers.loopback import Reply, Request
from tests.servers.ollama import Ollama
from tests.servers.strangers import (
    AnswersEverything,
    Dribble,
    GzipBomb,
    HalfResponse,
    LyingLlamaCpp,
    OpenAiCompatible,
    Redirects,
    Silent,
)
from tests.servers.vllm import Vllm


class Slow(LyingLlamaCpp):
    """Answers at once, until it is told to take its time."""

    patience = 0.0

    def answer(self, request: Request) -> Reply:
        self.closing.wait(self.patience)
        return super().answer(request)


@provokes("server.down", "the configuration names a port of this device where nothing listens")
def test_nothing_listens(shared: Shared, unused_port: int) -> Fault:
    pytest.importorskip("xllamacpp")  # what is not installed at all is said in other words
    return shared.refusal({"llamacpp": at(f"http://127.0.0.1:{unused_port}")}, "llamacpp/any")


@provokes("server.ended", "a llama.cpp server that hived started is killed")
def test_it_was_killed(shared: Shared) -> Fault:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    from tests.servers.llamacpp import ALIAS, speaking_model

    client = shared.expecting({})
    begun = list(client.start("llamacpp", model=str(speaking_model()), timeout=DEADLINE, restart=False))[-1]
    server = next(e for e in client.world().world.endpoints if e.name == begun.endpoint)
    assert server.process is not None
    assert server.process.pid is not None
    try:
        import os
        import signal

        os.kill(server.process.pid, signal.SIGKILL)
        return refusal(client, f"{server.name}/{ALIAS}", fresh=True)
    finally:
        client.stop(server.name)


@provokes("server.unreachable", "an address to which there is no way")
def test_no_way_there(shared: Shared) -> Fault:
    return shared.refusal({"llamacpp": at("http://255.255.255.255:8080")}, "llamacpp/any")


@provokes("server.dns", "a name that nobody has")
def test_no_such_name(shared: Shared) -> Fault:
    return shared.refusal({"llamacpp": at("http://gpu-box.invalid:8080")}, "llamacpp/any")


@provokes("server.silent", "a server that accepts and says nothing, as a stopped one does")
def test_not_a_word(shared: Shared) -> Fault:
    with Silent() as server:
        return shared.refusal({"llamacpp": at(server.url)}, "llamacpp/any")


@provokes("server.starting", "an Ollama that listens already and does not answer yet")
def test_it_comes_up(shared: Shared) -> Fault:
    with Ollama(starting=True) as server:
        return shared.refusal({"ollama": at(server.url)}, "ollama/any")


@provokes("server.loading", "a llama.cpp server whose model is being loaded")
def test_it_loads(shared: Shared) -> Fault:
    with LlamaCppLoading() as server:
        return shared.refusal({"llamacpp": at(server.url)}, "llamacpp/any")


@provokes("server.failed", "a vLLM whose engine was killed")
def test_its_engine_is_dead(shared: Shared) -> Fault:
    with Vllm() as server:
        server.kill_engine()
        return shared.refusal({"vllm": at(server.url)}, "vllm/any")


@provokes("server.unauthorised", "a llama.cpp server with a key, and none in the configuration")
def test_no_key(shared: Shared) -> Fault:
    with LlamaCppLoading("tiny") as server:
        server.finish()
        server.require_key("secret")
        return shared.refusal({"llamacpp": at(server.url)}, "llamacpp/tiny")


@provokes("server.unauthorised", "a llama.cpp server with a key, and another one in the variable")
def test_wrong_key(home: Path) -> Fault:
    with LlamaCppLoading("tiny") as server, settled(home, LAB_KEY="another") as daemon:
        server.finish()
        server.require_key("secret")
        configure(daemon.environment, {"llamacpp": at(server.url, api_key_env_var="LAB_KEY")})
        daemon.client.reload()
        return refusal(daemon.client, "llamacpp/tiny")


@provokes(
    "server.key_unset", "a vLLM with a key, and the variable is set neither for hived nor for the caller"
)
def test_unset_key(shared: Shared) -> Fault:
    with Vllm() as server:
        server.require_key("secret")
        return shared.refusal({"vllm": at(server.url, api_key_env_var="LAB_KEY")}, "vllm/tiny-random")


@provokes(
    "server.key_withheld", "a vLLM with a key, at a name of which nobody knows where it is, without TLS"
)
def test_withheld_key(home: Path) -> Fault:
    with Vllm() as server, settled(home, LAB_KEY="secret") as daemon:
        server.require_key("secret")
        # An old way to write 127.0.0.1, which the system resolves as it does any name.
        entry = at(server.url.replace("127.0.0.1", "0x7f.1"), api_key_env_var="LAB_KEY")
        configure(daemon.environment, {"lab": {"like": "vllm"} | entry})
        daemon.client.reload()
        return refusal(daemon.client, "lab/tiny-random")


@provokes("server.wrong", "a web page at the address")
def test_a_web_page(shared: Shared) -> Fault:
    with AnswersEverything() as server:
        return shared.refusal({"ollama": at(server.url)}, "ollama/any")


@provokes("server.other_dialect", "a gateway at an address that the configuration gives for vLLM")
def test_a_gateway(shared: Shared) -> Fault:
    with OpenAiCompatible() as server:
        return shared.warning("server.other_dialect", {"vllm": at(server.url)}, "vllm/m")


@provokes("server.malformed", "a server that hangs up in the middle of its answer")
def test_half_an_answer(shared: Shared) -> Fault:
    with HalfResponse() as server:
        return shared.refusal({"llamacpp": at(server.url)}, "llamacpp/any")


@provokes("server.malformed", "64 MB, packed into 64 kB")
def test_a_bomb(shared: Shared) -> Fault:
    with GzipBomb() as server:
        return shared.refusal({"llamacpp": at(server.url)}, "llamacpp/any")


@provokes("server.redirects", "a server that sends everybody somewhere else")
def test_somewhere_else(shared: Shared) -> Fault:
    with Redirects("https://example.com") as server:
        return shared.refusal({"llamacpp": at(server.url)}, "llamacpp/any")


def refused_in_time(client: Client, model: str, **question: Any) -> Fault:
    """Return why a question that has less time than a look is refused by the daemon, and not by the files."""

    def refused() -> Fault | None:
        try:
            client.resolve(model, timeout=0.1, **question)
        except HivedError as no:
            return no.fault
        return None  # the daemon itself was late

    found = wait_until(refused)
    assert found is not None
    return found


@provokes("server.not_seen_yet", "a question before the first look has come to an end")
def test_too_early(shared: Shared) -> Fault:
    with Dribble() as server:
        client = shared.expecting({"llamacpp": at(server.url)})
        return refused_in_time(client, "llamacpp/any")


@provokes("deadline", "a new look that is asked for takes longer than the question may")
def test_too_slow(shared: Shared) -> Fault:
    with Slow() as server:
        providers = {"llamacpp": at(server.url)}
        resolved(shared.expecting(providers), "llamacpp/m")
        server.patience = 0.9
        time.sleep(0.3)  # a no of the last quarter of a second would be given again
        return refused_in_time(shared.expecting(providers), "llamacpp/m", fresh=True)
