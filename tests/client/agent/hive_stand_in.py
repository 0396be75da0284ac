"""Stand-ins for the parts of Hive, and of LiteLLM, that the plug-in takes hold of.

``LiteLLMProvider`` has the signatures of both commits that are known to fit (a0d14b8a2 and 54fd8db4e), and
of its body what matters here: what it keeps, what it does to a name and an address, and that every call goes
through ``litellm`` as its module knows it, with what it keeps. ``litellm`` calls a server over the client
that it is given, as the real one does, or says that it would have gone to the cloud.
"""

from __future__ import annotations

import sys
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

PROVIDER_LIST = ("openai", "ollama", "ollama_chat", "hosted_vllm", "lm_studio", "anthropic", "groq")

OLD = """
import litellm


class LiteLLMProvider:
    text = "Hello"

    def __init__(self, model="gpt-4o-mini", api_key=None, api_base=None, **kwargs):
        self.model = model
        self.api_key = api_key
        self.api_base = api_base
        self.extra_kwargs = kwargs

    def _kwargs(self, **more):
        kwargs = {"model": self.model, "messages": [{"role": "user", "content": self.text}], **more}
        kwargs |= self.extra_kwargs
        if self.api_key:
            kwargs["api_key"] = self.api_key
        if self.api_base:
            kwargs["api_base"] = self.api_base
        return kwargs

    def complete(self):
        return litellm.completion(**self._kwargs())

    def say(self, letters):
        return litellm.completion(**self._kwargs(messages=[{"role": "user", "content": "x" * letters}]))

    async def acomplete(self):
        return await litellm.acompletion(**self._kwargs())

    async def stream(self):
        response = await litellm.acompletion(**self._kwargs(stream=True))
        return [chunk async for chunk in response]
"""

NEW = (
    OLD.replace(
        '    def __init__(self, model="gpt-4o-mini", api_key=None, api_base=None, **kwargs):\n',
        """    def __init__(
        self, model="gpt-4o-mini", api_key=None, api_base=None, api_keys=None, api_key_resolver=None, **kwargs
    ):
        self._api_key_resolver = api_key_resolver
        if model.startswith("ollama/"):
            model = "ollama_chat/" + model[len("ollama/"):]
""",
    )
    .replace("self.api_key = api_key\n", "self.api_key = api_key or (api_keys[0] if api_keys else None)\n", 1)
    .replace(
        "    def complete(self):\n",
        """    def reconfigure(self, model, api_key=None, api_base=None):
        if model.startswith("ollama/"):
            model = "ollama_chat/" + model[len("ollama/"):]
        self.model = model
        self.api_key = api_key
        self.api_base = api_base

    def complete(self):
        if self._api_key_resolver:
            self.api_key = self._api_key_resolver() or self.api_key
""",
        1,
    )
)
COMMITS = {"a0d14b8a2": OLD, "54fd8db4e": NEW}


class LiteLlm(types.ModuleType):
    """As much of LiteLLM as a call needs."""

    def __init__(self) -> None:
        super().__init__("litellm")
        self.provider_list = list(PROVIDER_LIST)
        self.model_cost: dict[str, Any] = {}
        self.utils = types.SimpleNamespace()
        self.to_the_cloud: list[dict[str, Any]] = []

    def completion(self, **kwargs: Any) -> Any:
        """Call a server, or note that there was none to call."""
        if "client" not in kwargs:
            self.to_the_cloud.append(kwargs)
            return "cloud"
        return _reply(kwargs["client"].client.post(_url(kwargs), json=_body(kwargs)))

    async def acompletion(self, **kwargs: Any) -> Any:
        """Do the same, not blocking."""
        if "client" not in kwargs:
            self.to_the_cloud.append(kwargs)
            return "cloud"
        client = kwargs["client"].client
        try:
            if kwargs.get("stream"):
                response = await client.send(
                    client.build_request("POST", _url(kwargs), json=_body(kwargs)), stream=True
                )
                return _Stream(response)
            return _reply(await client.post(_url(kwargs), json=_body(kwargs)))
        except httpx.HTTPError as error:
            raise ConnectionError(f"APIConnectionError: {error}") from error


class _Stream:
    """A stream that has more to it than its pieces, as LiteLLM's has."""

    model = "stands-in"

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[str]:
        if self._response.status_code != 200:
            await self._response.aread()
            raise ConnectionError(f"APIConnectionError: {self._response.text}")
        async for line in self._response.aiter_lines():
            yield line


def litellm(monkeypatch: Any) -> LiteLlm:
    """Put the stand-in where ``import litellm`` finds it, for one test."""
    module = LiteLlm()
    handlers = types.ModuleType("litellm.llms.custom_httpx.http_handler")
    handlers.__dict__.update(AsyncHTTPHandler=_AsyncHandler, HTTPHandler=_Handler)
    monkeypatch.setitem(sys.modules, "litellm", module)
    monkeypatch.setitem(sys.modules, handlers.__name__, handlers)
    return module


def hive(commit: str, litellm: LiteLlm) -> types.ModuleType:
    """Return Hive's module ``framework.llm.litellm`` as it is at a commit."""
    module = types.ModuleType("framework.llm.litellm")
    exec(COMMITS[commit], module.__dict__)
    assert module.litellm is litellm
    return module


def write_hive(folder: Path, commit: str) -> Path:
    """Write a package ``framework`` and a module ``litellm`` that can be imported; return their folder."""
    llm = folder / "framework" / "llm"
    llm.mkdir(parents=True)
    (folder / "framework" / "__init__.py").write_text("")
    (llm / "__init__.py").write_text("")
    (llm / "litellm.py").write_text(COMMITS[commit])
    names = ", ".join(repr(name) for name in PROVIDER_LIST)
    (folder / "litellm.py").write_text(
        f"provider_list = [{names}]\nmodel_cost = {{}}\nclass utils: pass\ncompletion = acompletion = None\n"
    )
    return folder


class _AsyncHandler:
    def __init__(self) -> None:
        self.client = self.create_client()

    def create_client(self) -> Any:
        raise NotImplementedError


class _Handler:
    def __init__(self, client: Any) -> None:
        self.client = client


def _url(kwargs: dict[str, Any]) -> str:
    ollama = kwargs["model"].startswith("ollama_chat/")
    return str(kwargs["api_base"]) + ("/api/chat" if ollama else "/chat/completions")


def _body(kwargs: dict[str, Any]) -> dict[str, Any]:
    name = kwargs["model"].partition("/")[2]
    body = {"model": name, "messages": kwargs["messages"], "stream": bool(kwargs.get("stream"))}
    return body | {"options": {"num_ctx": kwargs["num_ctx"]}} if "num_ctx" in kwargs else body


def _reply(response: httpx.Response) -> Any:
    if response.status_code != 200:
        raise ConnectionError(f"InternalServerError: {response.text}")
    return _Answer(response.json())


class _Answer(dict[str, Any]):
    """An answer of which the counts are attributes, as LiteLLM's are."""

    @property
    def usage(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(prompt_tokens=self.get("prompt_eval_count"))
