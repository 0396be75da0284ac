"""The table of provider kinds: prefixes, ports, addresses, and how LiteLLM must be called.

One row a kind. The mapping to LiteLLM is the only one that works for all of them: ``vllm/`` would
load vLLM inside the caller's process, plain ``ollama/`` loses tool calls when streaming, LiteLLM
knows no ``llamacpp``, and a missing ``api_base`` would send the call to a cloud host.
"""

from __future__ import annotations

import msgspec

from hived_client.vocabulary.faults import quoted


class Registry(msgspec.Struct, frozen=True, kw_only=True):
    """What a name ``HOST/NAMESPACE/MODEL:TAG`` means where it leaves out a part."""

    host: str
    namespace: str
    tag: str


class ProviderKind(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one kind of server is named, found and called."""

    name: str
    title: str
    prefixes: tuple[str, ...]
    litellm: str
    """Prefix of the model in LiteLLM."""
    api_path: str
    """What follows the root URL in ``api_base``: ``/v1`` or nothing."""
    ports: tuple[int, ...] = ()
    placeholder_key: str | None = None
    """What is sent where the server wants no key and the library insists on one."""
    start: str = ""
    """The command that starts it."""
    context_option: str | None = None
    """The call's argument that sets the context, where the server takes it a call at a time."""
    load: str = ""
    """The command that loads ``{model}`` with a context of ``{asked}`` tokens."""
    pull: str = ""
    """The command that fetches ``{model}``."""
    address_variable: str = ""
    """The variable that tells its commands of another server than the one at its default address."""
    registry: Registry | None = None
    """How its models are named, where a name is made of parts and some may be left out."""
    take_port: tuple[str, ...] = ()
    """The commands of this row that start a server at its usual port, unless ``--port`` names another."""
    start_model: str = ""
    """The command that starts it with ``{model}`` or ``{file}``, at ``{port}``."""
    placement: str = ""
    """The command that shows where its models run."""
    tools: str = ""
    """The command that starts it so that ``{model}`` can call tools."""
    upgrade: str = ""
    """The command that installs its newest version."""
    install: str = ""
    """The command that installs it."""
    install_darwin: str = ""
    """The same on macOS, where that is another."""
    listens_late: bool = False
    """Whether it takes its port long before it accepts connections there: refused may mean starting."""
    stops_listening: bool = False
    """Whether it can stop serving while its program stays open: that the program lives is too little then."""
    silent_start: float = 0.0
    """Seconds for which a server that has just been started may accept connections and not answer yet."""


LLAMACPP = ProviderKind(
    name="llamacpp",
    title="llama.cpp",
    prefixes=("llamacpp", "llama_cpp", "llama.cpp"),
    litellm="openai",
    api_path="/v1",
    ports=(8080, 9931),
    placeholder_key="sk-no-key-required",
    start="hived start llamacpp --model FILE.gguf",
    take_port=("start", "load"),
    load="llama-server --model FILE.gguf --ctx-size {asked}",
    start_model="hived start llamacpp --model {file}",
    install="pip install xllamacpp",
)
OLLAMA = ProviderKind(
    name="ollama",
    title="Ollama",
    prefixes=("ollama", "ollama_chat"),
    litellm="ollama_chat",
    api_path="",
    ports=(11434,),
    start="ollama serve",
    context_option="num_ctx",
    pull="ollama pull {model}",
    address_variable="OLLAMA_HOST",
    registry=Registry(host="registry.ollama.ai", namespace="library", tag="latest"),
    placement="ollama ps",
    upgrade="curl -fsSL https://ollama.com/install.sh | sh",
    install="curl -fsSL https://ollama.com/install.sh | sh",
    install_darwin="brew install ollama",
    silent_start=60.0,
)
VLLM = ProviderKind(
    name="vllm",
    title="vLLM",
    prefixes=("vllm", "hosted_vllm"),
    litellm="hosted_vllm",
    api_path="/v1",
    ports=(8000,),
    placeholder_key="sk-no-key-required",
    start="vllm serve MODEL --host 127.0.0.1",
    take_port=("start", "load", "tools"),
    load="vllm serve {model} --max-model-len {asked}",
    start_model="vllm serve {model} --host 127.0.0.1 --port {port}",
    tools="vllm serve {model} --enable-auto-tool-choice --tool-call-parser hermes",
    upgrade="pip install --upgrade vllm",
    install="pip install vllm",
    listens_late=True,
)
LM_STUDIO = ProviderKind(
    name="lm_studio",
    title="LM Studio",
    prefixes=("lm_studio", "lmstudio"),
    litellm="lm_studio",
    api_path="/v1",
    ports=(1234,),
    placeholder_key="sk-no-key-required",
    start="lms server start",
    take_port=("start",),
    load="lms load {model} --context-length {asked}",
    pull="lms get {model}",
    placement="lms ps",
    stops_listening=True,
    install="curl -fsSL https://lmstudio.ai/install.sh | bash",
)
OPENAI_COMPATIBLE = ProviderKind(
    name="openai_compatible",
    title="OpenAI-compatible server",
    prefixes=("openai_compatible",),
    litellm="openai",
    api_path="/v1",
    placeholder_key="sk-no-key-required",
    stops_listening=True,
)

KINDS: tuple[ProviderKind, ...] = (OLLAMA, VLLM, LM_STUDIO, LLAMACPP, OPENAI_COMPATIBLE)

_BY_PREFIX = {prefix: kind for kind in KINDS for prefix in kind.prefixes}
_BY_NAME = {kind.name: kind for kind in KINDS}


def kind_of_prefix(prefix: str, more: tuple[ProviderKind, ...] = ()) -> ProviderKind | None:
    """Return the kind that a prefix stands for, in any case; ``more`` are rows from a World."""
    wanted = prefix.casefold()
    for kind in more:
        if wanted in (own.casefold() for own in kind.prefixes):
            return kind
    return _BY_PREFIX.get(wanted)


def kind_named(name: str, more: tuple[ProviderKind, ...] = ()) -> ProviderKind | None:
    """Return the kind with this name; ``more`` are rows from a World."""
    for kind in more:
        if kind.name == name:
            return kind
    return _BY_NAME.get(name)


def is_local_model(model: str) -> bool:
    """Tell whether a model's prefix is one of a local provider. The one helper for that question."""
    prefix, slash, name = model.partition("/")
    return bool(slash and name) and kind_of_prefix(prefix) is not None


def api_base(kind: ProviderKind, url: str) -> str:
    """Return what LiteLLM needs as ``api_base`` for a root URL; never empty.

    Raises ValueError for an empty URL: without one LiteLLM would connect to a cloud host.
    """
    root = root_url(url)
    if not root:
        raise ValueError("a local model needs the address of its server")
    return root + kind.api_path


def root_url(url: str) -> str:
    """Return a server's root: no trailing slash, no ``/v1``."""
    url = url.strip().rstrip("/")
    return url.removesuffix("/v1").rstrip("/")


def shown_url(url: str) -> str:
    """Return a URL without the name and the password that it may hold: they reach no message and no log."""
    scheme, separator, rest = url.rpartition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def address(url: str) -> tuple[str, int]:
    """Return host and port of a URL, with the scheme's port where it names none."""
    scheme, _, rest = url.partition("://")
    authority = rest.partition("/")[0].rpartition("@")[2]
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, ""
    number = int(port) if port.isdecimal() and int(port) < 65_536 else 443 if scheme == "https" else 80
    return host.strip("[]"), number


_HERE = ("127.0.0.1", "localhost", "::1")
_LOCAL = ("start", "start_model", "load", "tools", "upgrade", "install", "install_darwin")
_ANYWHERE = ("pull", "placement")
"""Commands that ask a server to do something, where they can be told which one."""


def command(template: str, model: str, **more: str | int | None) -> str:
    """Fill in the name of a model. Empty where there is no command, or the name would be an option of it."""
    return "" if model.startswith("-") else template.format(model=quoted(model), **more)


def commands_at(kind: ProviderKind, url: str, locality: str | None) -> ProviderKind:
    """Return a kind's row with the commands that act on its server at this address, as they have to be.

    Commands are given on this device. What would start, load or install something here does nothing for a
    server on another. Of those here, Ollama's go to its default address unless a variable says another, and
    others would start a server at its usual port unless they are told another.
    """
    host, port = address(url)
    is_here = locality == "device" or host in _HERE
    if is_here and port in kind.ports:
        return kind
    changed: dict[str, str] = {} if is_here else dict.fromkeys((*_LOCAL, *_ANYWHERE), "")
    if is_here:
        changed |= {name: f"{getattr(kind, name)} --port {port}" for name in kind.take_port}
    if kind.address_variable and not {"{", "}"}.intersection(host):
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        scheme = "https://" if url.startswith("https:") else ""
        given = f"{kind.address_variable}={quoted(scheme + where)} "
        for name in ("start", *_ANYWHERE) if is_here else _ANYWHERE:
            template = getattr(kind, name)
            changed[name] = given + template if template else ""
    return msgspec.structs.replace(kind, **changed)
