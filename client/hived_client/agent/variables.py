"""What other programs read from their environment to find a model: one Target, in everybody's names. Pure.

OpenAI's SDKs: ``OPENAI_BASE_URL``, ``OPENAI_API_KEY`` (an older name of the first: ``OPENAI_API_BASE``).
LiteLLM: ``OLLAMA_API_BASE``, ``HOSTED_VLLM_API_BASE``, ``LM_STUDIO_API_BASE``; and
``LITELLM_LOCAL_MODEL_COST_MAP``, without which its import fetches a price list from the internet. Ollama's
own client: ``OLLAMA_HOST``. Proxies: ``NO_PROXY`` and ``no_proxy``, so that a call to this device stays on
it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hived_client.resolution import Target
from hived_client.vocabulary.kinds import address, root_url

_BASES = {"hosted_vllm": "HOSTED_VLLM_API_BASE", "lm_studio": "LM_STUDIO_API_BASE"}
_NO_KEY = "sk-no-key-required"


class Variables(msgspec.Struct, frozen=True, kw_only=True):
    """Variables for one model. A key is only ever named: ``key_ref`` is the variable that holds it."""

    values: dict[str, str]
    key_ref: str | None = None


def variables_of(target: Target, environment: Mapping[str, str]) -> Variables:
    """Return the variables with which other programs call this model.

    Every one of these servers speaks OpenAI's dialect below ``/v1``, also where LiteLLM calls it otherwise.
    """
    root = root_url(target.api_base)
    openai = f"{root}/v1"
    host, _ = address(root)
    values = {
        "OPENAI_BASE_URL": openai,
        "OPENAI_API_BASE": openai,
        "OPENAI_MODEL": target.name,
        "HIVED_MODEL": f"{target.endpoint}/{target.name}",
        "LITELLM_MODEL": target.model,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    prefix = target.model.partition("/")[0]
    if prefix in _BASES:
        values[_BASES[prefix]] = target.api_base
    if prefix == "ollama_chat":
        values |= {"OLLAMA_HOST": root, "OLLAMA_API_BASE": root}
    bypassed = _bypassing(environment.get("NO_PROXY") or environment.get("no_proxy") or "", host)
    values |= {"NO_PROXY": bypassed, "no_proxy": bypassed}
    if target.key_ref is None:
        # Their libraries insist on a key; the servers want none.
        values["OPENAI_API_KEY"] = target.api_key or _NO_KEY
    elif not environment.get(target.key_ref):
        # Left out, the key that is there for OpenAI would be sent to this server.
        values["OPENAI_API_KEY"] = _NO_KEY
    return Variables(values=values, key_ref=target.key_ref)


def _bypassing(present: str, host: str) -> str:
    """Add a host to what is called without a proxy; what is there stays."""
    hosts = [each.strip() for each in present.split(",") if each.strip()]
    if "*" in hosts or host in hosts:
        return ",".join(hosts)
    return ",".join([*hosts, host])
