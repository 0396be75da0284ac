"""Every way to a local model through LiteLLM, gone once, in a process of its own.

    python -m tests.client.agent.litellm_ways [--table]

It starts the servers itself, so that it also runs where there is no network but loopback. What it prints, as
one line of JSON, is a table: which prefix, by which door (``complete``, or LiteLLM itself with
``local_kwargs``), streaming or not, with tools or not; what came of it; every address that the process
connected to; and what the Ollama was asked. ``--table`` prints it for people.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import msgspec

from hived_client.agent.litellm_calls import complete, local_kwargs
from hived_client.agent.litellm_thread import import_litellm
from hived_client.agent.words import Reply, Request
from hived_client.errors import CallFailed
from hived_client.resolution import Target
from tests.servers.emulators import Emulator
from tests.servers.llamacpp import ALIAS, ARGUMENTS, SAY, TOOL, LlamaCpp
from tests.servers.ollama import Ollama
from tests.servers.strangers import Redirects

PREFIXES = ("openai", "hosted_vllm", "lm_studio", "ollama_chat")
HELLO = {"role": "user", "content": "Hello"}
OFFER = {
    "type": "function",
    "function": {
        "name": TOOL,
        "description": "Give one output.",
        "parameters": {
            "type": "object",
            "properties": {"key": {"type": "string"}, "value": {"type": "string"}},
            "required": ["key", "value"],
        },
    },
}
MODEL = "llama3:latest"
_PROVIDERS = {"openai": "llamacpp", "hosted_vllm": "vllm", "lm_studio": "lm_studio", "ollama_chat": "ollama"}


def target(prefix: str, url: str, **fields: Any) -> Target:
    """Make the target for a server, as hived would."""
    name = MODEL if prefix == "ollama_chat" else ALIAS
    root = prefix == "ollama_chat"
    known: dict[str, Any] = {
        "model": f"{prefix}/{name}",
        "api_base": url if root else f"{url}/v1",
        "endpoint": _PROVIDERS[prefix],
        "provider": _PROVIDERS[prefix],
        "name": name,
        "api_key": None if root else "sk-no-key-required",
        "extra": {"num_ctx": 4096} if root else {},
        "context": 4096,
        "facts": {
            "litellm_provider": prefix,
            "mode": "chat",
            "max_tokens": 4096,
            "max_input_tokens": 4096,
            "max_output_tokens": 4096,
            "input_cost_per_token": 0.0,
            "output_cost_per_token": 0.0,
        },
    }
    return Target(**(known | fields))


def request(*, tools: bool, **fields: Any) -> Request:
    """Ask for a sentence, or for a call of the tool."""
    return Request(messages=[HELLO], tools=[OFFER] if tools else [], **fields)


def watched() -> set[str]:
    """Return a set that gets every address that this process connects to from now on."""
    seen: set[str] = set()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(args[1], tuple):
            seen.add(f"{args[1][0]}:{args[1][1]}")
        elif event == "socket.getaddrinfo":
            seen.add(f"{args[0]}:{args[1]}")

    sys.addaudithook(hook)
    return seen


def tried(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what came of a call: what was said, or the code of the fault, or the error."""
    try:
        return call()
    except CallFailed as failed:
        return {"fault": failed.code}
    except Exception as error:  # noqa: BLE001 - it is the result
        return {"error": f"{type(error).__name__}: {error}"[:300]}


def through_complete(where: Target, tools: bool, backend: str) -> dict[str, Any]:
    """Have a turn as the agent's runner has it."""
    import anyio

    pieces: list[str] = []

    async def go() -> Reply:
        with anyio.fail_after(120.0):
            return await complete(where, request(tools=tools), lambda piece: pieces.append(piece.text))

    reply = anyio.run(go, backend=backend)
    assert "".join(pieces) == reply.text
    found: dict[str, Any] = msgspec.to_builtins(reply)
    return found | {"pieces": len(pieces)}


def through_litellm(where: Target, tools: bool, *, stream: bool, asynchronous: bool) -> dict[str, Any]:
    """Have a turn as a program has it that calls LiteLLM itself."""
    import asyncio

    litellm = import_litellm()
    kwargs = local_kwargs(where, asynchronous=asynchronous) | {"messages": [HELLO], "stream": stream}
    kwargs |= {"tools": [OFFER]} if tools else {}

    async def go() -> Any:
        answer = await litellm.acompletion(**kwargs)
        found = [chunk async for chunk in answer] if stream else answer
        await kwargs["client"].close()
        return found

    if asynchronous:
        answer = asyncio.run(go())
    else:
        answer = litellm.completion(**kwargs)
        answer = list(answer) if stream else answer
        kwargs["client"].close()
    whole = litellm.stream_chunk_builder(answer) if stream else answer
    message = whole.choices[0].message
    calls = [
        {"name": each.function.name, "arguments": each.function.arguments}
        for each in message.tool_calls or ()
    ]
    return {"text": message.content or "", "tool_calls": calls}


def fits(row: dict[str, Any]) -> bool:
    """Tell whether the model said what it says."""
    if not row["tools"]:
        return bool(row.get("text")) and (row["prefix"] == "ollama_chat" or SAY in row["text"])
    calls = row.get("tool_calls") or [{}]
    if calls[0].get("name") != TOOL:
        return False
    given = json.loads(calls[0]["arguments"])
    return given == ARGUMENTS if row["prefix"] != "ollama_chat" else sorted(given) == ["key", "value"]


def ways(where: Target, tools: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return every way to one model, by name."""
    found: dict[str, Callable[[], dict[str, Any]]] = {
        f"complete, {backend}": partial(through_complete, where, tools, backend)
        for backend in ("asyncio", "trio")
    }
    for stream in (True, False):
        for asynchronous in (True, False):
            name = f"{'acompletion' if asynchronous else 'completion'}, {'stream' if stream else 'whole'}"
            found[name] = partial(through_litellm, where, tools, stream=stream, asynchronous=asynchronous)
    return found


def main() -> None:
    """Go every way, and print the table."""
    rows: list[dict[str, Any]] = []
    with (
        LlamaCpp() as llama,
        Ollama() as ollama,
        Emulator(table={}) as lure,
        Redirects(lure.url) as redirects,
    ):
        ollama.add(MODEL, capabilities=("completion", "tools"))
        seen = watched()
        for prefix in PREFIXES:
            where = target(prefix, ollama.url if prefix == "ollama_chat" else llama.url)
            for tools in (False, True):
                for way, call in ways(where, tools).items():
                    row = {"prefix": prefix, "way": way, "tools": tools} | tried(call)
                    rows.append(row | {"fits": fits(row)})
        for prefix in PREFIXES:
            for way, call in ways(target(prefix, redirects.url), False).items():
                row = {"prefix": prefix, "way": f"{way}, redirected", "tools": False} | tried(call)
                told = row.get("fault") == "server.redirects" or "with a redirect" in row.get("error", "")
                rows.append(row | {"fits": told})
        servers = {each.url.removeprefix("http://") for each in (llama, ollama, redirects)}
        table = {
            "litellm": version("litellm"),
            "rows": rows,
            "elsewhere": sorted(seen - servers),
            "ollama": sorted({f"{method} {path}" for method, path in ollama.requests}),
            "lured": len(lure.requests),
            "redirected": len(redirects.requests),
        }
    print("\n".join(lines(table)) if "--table" in sys.argv else json.dumps(table))


def lines(table: dict[str, Any]) -> list[str]:
    """Return the table for people: a line for each prefix, a column for each way."""
    rows = table["rows"]
    columns = list(dict.fromkeys(row["way"].removesuffix(", redirected") for row in rows))
    found = [f"litellm {table['litellm']:<30}" + "  ".join(columns)]
    for prefix in PREFIXES:
        for what in ("text", "tool call", "redirect refused"):
            cells: list[str] = []
            for row in rows:
                kind = (
                    "redirect refused"
                    if "redirected" in row["way"]
                    else "tool call"
                    if row["tools"]
                    else "text"
                )
                if (row["prefix"], kind) == (prefix, what):
                    column = columns[len(cells)]
                    cells.append(f"{'yes' if row['fits'] else 'NO':<{len(column)}}")
            found.append(f"  {prefix + '/':<14}{what:<22}" + "  ".join(cells))
    found.append(
        f"  connected elsewhere: {table['elsewhere']}; the redirect's end was asked: {table['lured']}"
    )
    found.append(f"  asked of Ollama: {table['ollama']}")
    return found


if __name__ == "__main__":
    main()
