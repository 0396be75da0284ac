"""The thread in which LiteLLM lives, with something lighter in LiteLLM's place; on both event loops."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest

from hived_client.agent import litellm_calls
from hived_client.agent.chat import Told
from hived_client.agent.litellm_calls import (
    complete,
    fetched_by_litellm,
    prepare,
    tell_facts,
    without_secrets,
)
from hived_client.agent.litellm_thread import LiteLlmThread, NoLiteLlm, Put
from hived_client.agent.words import Request
from hived_client.errors import CallFailed
from hived_client.resolution import Target

pytestmark = pytest.mark.anyio

LOADED = object()
HELLO = Request(messages=[{"role": "user", "content": "Hello"}])


class Stop(Exception):
    """Ends a loop of these tests."""


@pytest.fixture
def thread() -> Any:
    made = LiteLlmThread(lambda: LOADED)
    yield made
    end(made)


def end(thread: LiteLlmThread) -> None:
    """Stop a thread, which otherwise lives as long as the process."""
    loop = thread.start()
    running = [each for each in threading.enumerate() if each.name == "litellm"]
    loop.call_soon_threadsafe(loop.stop)
    for each in running:
        each.join(60.0)
    loop.close()


async def test_what_a_job_puts_is_taken_in_order_on_the_callers_side(thread: LiteLlmThread) -> None:
    taken: list[Any] = []
    here = threading.get_ident()

    async def job(litellm: Any, put: Put) -> None:
        assert litellm is LOADED
        assert threading.get_ident() != here
        for number in range(2000):
            put(number)
        await asyncio.sleep(0.01)
        put("last")

    def take(item: Any) -> None:
        assert threading.get_ident() == here
        taken.append(item)

    await thread.run(job, take)
    assert taken == [*range(2000), "last"]


async def test_what_a_job_raises_is_raised(thread: LiteLlmThread) -> None:
    async def job(litellm: Any, put: Put) -> None:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await thread.run(job, print)


async def test_what_the_taker_raises_ends_the_job(thread: LiteLlmThread) -> None:
    ended = threading.Event()

    async def job(litellm: Any, put: Put) -> None:
        try:
            while True:
                put(1)
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    def take(item: Any) -> None:
        raise Stop

    with pytest.raises(Stop):
        await thread.run(job, take)
    assert ended.is_set()


async def test_a_cancellation_waits_until_the_job_has_ended(thread: LiteLlmThread) -> None:
    ended = threading.Event()

    async def job(litellm: Any, put: Put) -> None:
        put("begun")
        try:
            await asyncio.sleep(60.0)
        finally:
            await asyncio.sleep(0.05)
            ended.set()

    async with anyio.create_task_group() as tasks:

        async def go() -> None:
            await thread.run(job, lambda item: tasks.cancel_scope.cancel())

        tasks.start_soon(go)
    assert ended.is_set()


async def test_jobs_run_side_by_side(thread: LiteLlmThread) -> None:
    meet = asyncio.Event()

    async def first(litellm: Any, put: Put) -> None:
        await asyncio.wait_for(meet.wait(), 5.0)

    async def second(litellm: Any, put: Put) -> None:
        meet.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(thread.run, first, print)
        tasks.start_soon(thread.run, second, print)


async def test_a_job_sees_its_own_event_loop_whichever_the_caller_has(thread: LiteLlmThread) -> None:
    async def job(litellm: Any, put: Put) -> None:
        put(anyio.get_cancelled_exc_class())

    taken: list[Any] = []
    await thread.run(job, taken.append)
    assert taken == [asyncio.CancelledError]


async def test_an_import_is_waited_for_and_may_be_given_up() -> None:
    may = threading.Event()

    def load() -> object:
        may.wait(600.0)
        return LOADED

    thread = LiteLlmThread(load)

    async def job(litellm: Any, put: Put) -> None:
        put(litellm)

    taken: list[Any] = []
    with anyio.move_on_after(0.05) as scope:
        await thread.run(job, taken.append)
    assert scope.cancelled_caught
    assert (repr(thread), thread.ready) == ("<LiteLlmThread importing>", False)
    may.set()
    await thread.run(job, taken.append)
    assert taken == [LOADED]
    assert repr(thread) == "<LiteLlmThread ready>"
    end(thread)


async def test_an_import_that_fails_is_said_to_every_caller() -> None:
    def load() -> object:
        raise NoLiteLlm("ImportError: no tokens")

    thread = LiteLlmThread(load)

    async def job(litellm: Any, put: Put) -> None:
        raise AssertionError("it must not run")

    for _ in range(2):
        with pytest.raises(NoLiteLlm, match="no tokens"):
            await thread.run(job, print)
    assert repr(thread) == "<LiteLlmThread failed>"
    end(thread)


async def test_its_event_loop_is_closed_when_it_ends() -> None:
    thread = LiteLlmThread(lambda: object())

    async def nothing(litellm: object, put: object) -> None: ...

    await thread.run(nothing, print)
    loop = thread.start()
    await anyio.to_thread.run_sync(thread.end)
    assert loop.is_closed()


async def test_it_costs_nothing_until_it_is_started() -> None:
    thread = LiteLlmThread(lambda: LOADED)
    assert repr(thread) == "<LiteLlmThread off>"
    assert not thread.ready


AT_THE_END = """
import _imp, anyio, asyncio, time
from hived_client.agent.litellm_thread import LiteLlmThread

class Late:
    def __del__(self):
        try:
            import wave
        except ImportError:
            pass  # by now there may be no imports any more

async def job(litellm, put):
    loop = asyncio.get_running_loop()
    def busy():
        _imp.acquire_lock()
        time.sleep(0.02)
        _imp.release_lock()
        loop.call_soon(busy)
    loop.call_soon(busy)
    asyncio.ensure_future(asyncio.sleep(3600))

thread = LiteLlmThread(lambda: 7)
anyio.run(thread.run, job, print)
late = Late()
late.itself = late
del late
"""
"""A thread that is in the middle of an import all the time, and an object that imports when it goes."""


def test_the_process_ends_whatever_the_thread_is_at() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END], capture_output=True, timeout=120, check=True, text=True
    )
    assert done.stderr == ""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_child_of_a_fork_starts_its_own() -> None:
    code = (
        "import asyncio, os\n"
        "from hived_client.agent.litellm_thread import LiteLlmThread\n"
        "thread = LiteLlmThread(lambda: 7)\n"
        "async def job(module, put): put(module + os.getpid())\n"
        "asyncio.run(thread.run(job, lambda item: None))\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    asyncio.run(thread.run(job, lambda item: os._exit(0 if item == 7 + os.getpid() else 1)))\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            timeout=120.0,
            check=False,
        )
    )
    assert done.returncode == 0


# What is decided without LiteLLM.


class Prices:
    """What of LiteLLM the facts are written to."""

    def __init__(self, **known: dict[str, Any]) -> None:
        self.model_cost: dict[str, dict[str, Any]] = dict(known)
        self.utils = self
        self.forgot = 0

    def _invalidate_model_cost_lowercase_map(self) -> None:
        self.forgot += 1


def target(model: str, **facts: Any) -> Target:
    name = model.partition("/")[2]
    return Target(
        model=model, api_base="http://127.0.0.1:1", endpoint="e", provider="p", name=name, facts=facts
    )


def test_the_facts_of_an_ollama_model_are_written_under_both_names_once() -> None:
    prices = Prices()
    where = target("ollama_chat/x", litellm_provider="ollama_chat", max_input_tokens=7)
    for _ in range(3):
        tell_facts(prices, where, tools=False)
    told = {"litellm_provider": "ollama_chat", "max_input_tokens": 7, "supports_function_calling": True}
    assert prices.model_cost == {"ollama_chat/x": told, "ollama/x": told}
    assert prices.forgot == 1, "what LiteLLM derives from the list is made anew only when it changed"


def test_a_call_with_tools_is_made_with_tools_whatever_the_facts_say() -> None:
    prices = Prices()
    where = target("hosted_vllm/x", supports_function_calling=False)
    tell_facts(prices, where, tools=False)
    assert prices.model_cost["hosted_vllm/x"]["supports_function_calling"] is False
    tell_facts(prices, where, tools=True)
    assert prices.model_cost["hosted_vllm/x"]["supports_function_calling"] is True


def test_a_name_that_the_cloud_has_keeps_its_price() -> None:
    prices = Prices(**{"openai/dear": {"input_cost_per_token": 1.0}})
    tell_facts(prices, target("openai/dear", input_cost_per_token=0.0), tools=True)
    assert prices.model_cost == {"openai/dear": {"input_cost_per_token": 1.0}}
    tell_facts(prices, target("openai/ours", input_cost_per_token=0.0), tools=True)
    tell_facts(prices, target("openai/ours", input_cost_per_token=0.5), tools=True)
    assert prices.model_cost["openai/ours"]["input_cost_per_token"] == 0.5


@pytest.mark.parametrize(
    ("part", "server"),
    [
        (
            {"type": "file", "file": {"file_id": "https://me:pw@files.example.com/a.pdf"}},
            "https://files.example.com",
        ),
        ({"type": "file", "file": {"file_data": "HTTP://h:1/a"}}, "HTTP://h:1"),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}, None),
        ({"type": "file", "file": None}, None),
        ({"type": "image_url", "image_url": {"url": "http://h/a.png"}}, None),
        ("text", None),
    ],
)
def test_what_litellm_would_fetch_by_itself_is_found(part: Any, server: str | None) -> None:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Be kind."}]
    messages.append({"role": "user", "content": [part]})
    assert fetched_by_litellm(messages) == server


def test_no_secret_of_the_environment_stands_in_a_text() -> None:
    environment = {
        "A_KEY": "sk-12345678",
        "MY_TOKEN": "tok-87654321",
        "HOME": "/home/somebody",
        "KEY": "short",
    }
    text = "sk-12345678 and tok-87654321 in /home/somebody, short"
    assert without_secrets(text, environment) == "*** and *** in /home/somebody, short"


async def test_neither_key_nor_password_stands_in_what_litellm_says_of_a_local_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(litellm_calls, "is_installed", lambda: True)

    async def fails(self: object, *args: object) -> None:
        raise CallFailed(turn.failed(RuntimeError("Bearer lab-secret was refused")))

    where = msgspec.structs.replace(
        target("openai/x"), api_base="http://bob:s3cret@127.0.0.1:1/v1", api_key="lab-secret"
    )
    turn = litellm_calls._Local(where)
    monkeypatch.setattr(litellm_calls._THREAD, "run", fails)
    with pytest.raises(CallFailed) as failed:
        await complete(where, HELLO)
    assert failed.value.code == "call.failed"
    assert "http://127.0.0.1:1" in failed.value.message
    assert "Bearer ***" in failed.value.message
    assert "s3cret" not in failed.value.message


async def test_without_litellm_a_call_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm_calls, "is_installed", lambda: False)
    prepare()
    told: Told = print
    for what in ("gpt-4o", target("openai/x")):
        with pytest.raises(CallFailed) as failed:
            await complete(what, HELLO, told)
        assert failed.value.code == "call.no_litellm"
        assert failed.value.hint == "pip install 'litellm>=1.81' mcp"
    assert "litellm" not in [each.name for each in threading.enumerate()]


async def test_the_name_of_a_local_model_alone_is_never_called() -> None:
    with pytest.raises(ValueError, match="local model"):
        await complete("ollama/llama3", HELLO)
