"""The addresses that users have in their environment already: the servers' own variables and LiteLLM's.

Each is read by the rule of the program that it is meant for. One that makes no sense is passed over.
``VLLM_PORT`` and ``VLLM_HOST_IP`` are not addresses of vLLM's API, and are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from hived.decisions.addresses import BadAddress, read_url
from hived.decisions.expected import Given
from hived.decisions.ollama_host import read_ollama_host, written_host
from hived.decisions.unspecified import is_to_listen

_VARIABLES: tuple[tuple[str, str, Callable[[str], str], str | None], ...] = (
    ("OLLAMA_HOST", "ollama", read_ollama_host, None),
    ("OLLAMA_API_BASE", "ollama", read_url, None),
    ("HOSTED_VLLM_API_BASE", "vllm", read_url, "HOSTED_VLLM_API_KEY"),
    ("VLLM_API_BASE", "vllm", read_url, "VLLM_API_KEY"),
    ("LM_STUDIO_API_BASE", "lm_studio", read_url, "LM_STUDIO_API_KEY"),
)
"""Variable, provider, how its text is read, and the variable of the key that belongs to it."""


def from_environment(environment: Mapping[str, str]) -> Iterator[Given]:
    """Yield an endpoint for every variable that names one."""
    for variable, provider, read, key in _VARIABLES:
        text = environment.get(variable, "").strip()
        if not text:
            continue
        try:
            url = read(text)
        except BadAddress:
            continue
        yield Given(
            name=provider,
            provider=provider,
            url=url,
            source="environment",
            origin=variable,
            listens=text if is_to_listen(written_host(text) if read is read_ollama_host else text) else "",
            key_ref=key if key is not None and environment.get(key) else None,
        )
    yield from _llamacpp(environment)


def _llamacpp(environment: Mapping[str, str]) -> Iterator[Given]:
    """Read ``LLAMA_ARG_HOST`` and ``LLAMA_ARG_PORT``, llama-server's ``--host`` and ``--port``."""
    host, port = environment.get("LLAMA_ARG_HOST", "").strip(), environment.get("LLAMA_ARG_PORT", "").strip()
    if not host and not port:
        return
    first = host.split(",")[0].strip() or "127.0.0.1"
    if first.endswith(".sock"):
        return  # a Unix socket: LiteLLM could not call it
    shown = f"[{first}]" if ":" in first and not first.startswith("[") else first
    try:
        url = read_url(f"http://{shown}:{port or 8080}")
    except BadAddress:
        return
    variables = " and ".join(n for n, v in (("LLAMA_ARG_HOST", host), ("LLAMA_ARG_PORT", port)) if v)
    yield Given(
        name="llamacpp",
        provider="llamacpp",
        url=url,
        source="environment",
        origin=variables,
        listens=first if is_to_listen(shown) else "",
    )
