"""How vLLM is started: ``vllm serve MODEL``, one server a model, each on a port of its own.

A model is a name of Hugging Face's, which vLLM downloads where it is not on the disk, or a folder. A start
takes minutes; for most of them the port is taken and nothing listens there (`vllm_log` tells how far it is).
No secret goes onto the command line, where every user of the machine can read it, and what gives power over
the machine to whoever reaches the port is not passed on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from hived.decisions.addresses import host_and_port
from hived.machine.inherited import without_ours
from hived.machine.installations import Installations
from hived.machine.loopback import own_place, shown
from hived.machine.owners import port_taken
from hived.machine.ports import choose_port
from hived.machine.recipes import Launch, Stage, Wanted
from hived.machine.start_faults import fault_of, log_of
from hived.machine.vllm_log import broke_down, stage_of, why_it_ended
from hived_client.errors import Refused, StartFailed
from hived_client.vocabulary.faults import Fault, fault, quoted, wrong_start
from hived_client.vocabulary.kinds import VLLM

_OURS = ("--model", "--host", "--port", "--uds", "--served-model-name", "--max-model-len")
_SECRETS = ("--api-key", "--hf-token", "--ssl-keyfile", "--ssl-certfile")
_NEVER = _OURS + _SECRETS
"""What hived says itself, where the second word would win; secrets, and what would make another URL of it."""
_UNSET = frozenset(("VLLM_SERVER_DEV_MODE", "VLLM_API_KEY"))
"""Variables that would open the server to more than calls, or close it to hived's clients."""

_SHARE = "--gpu-memory-utilization"
_SMALLER = (0.7, 0.4, 0.2)
"""Shares of the GPU's memory to ask for where others have some of it; vLLM asks for 0.9 by itself."""
_GREATEST = 0.97


class VllmRecipe:
    """vLLM's server."""

    kind = VLLM
    single = False
    only_one = False
    takes = frozenset(("model", "context", "alias", "arguments"))

    def __init__(self, root: str = "/") -> None:
        """``root`` is the folder taken for ``/`` when its program is looked for."""
        self._root = root

    def __repr__(self) -> str:
        return "<VllmRecipe>"

    def prepare(self, wanted: Wanted, base: Mapping[str, str]) -> Launch:
        """Find the program, look at the model, choose a port. Blocks."""
        host, usual = own_place(VLLM, wanted.url)
        if not wanted.model:
            raise Refused(fault("start.no_model", title=VLLM.title, start="hived start vllm --model MODEL"))
        if refused := sorted(set(_refused(wanted.arguments))):
            why = f"{' '.join(refused)} is not passed on to a server that hived starts"
            raise Refused(wrong_start(why))
        program = Installations(base, root=self._root).find(VLLM.name)
        if program is None or not program.found or program.path is None:
            raise StartFailed(fault("start.not_installed", title=VLLM.title, why="", install=VLLM.install))
        _check_model(wanted.model)
        port = choose_port(host, wanted.port, usual)
        if port is None:
            restart = wanted.command(VLLM.name, port=0)
            raise StartFailed(port_taken(host, wanted.port or 0, restart=restart))
        alias = wanted.alias or _alias_of(wanted.model)
        argv = [program.path, "serve", wanted.model, "--host", host, "--port", str(port)]
        argv += ["--served-model-name", alias]
        argv += ["--max-model-len", str(wanted.context)] if wanted.context is not None else []
        return Launch(
            argv=(*argv, *wanted.arguments),
            environment=_environment(base),
            url=f"http://{shown(host, port)}",
            wanted=wanted,
            model=wanted.model,
            alias=alias,
            notes=_notes(base),
        )

    def why_it_ended(self, text: str, *, started: bool) -> str:
        return why_it_ended(text, started=started)

    def broke_down(self, text: str) -> bool:
        return broke_down(text)

    def stage(self, text: str) -> Stage | None:
        return stage_of(text)

    def fault_of_end(self, launch: Launch, why: str, log: str) -> Fault:
        if "address already in use" in why.casefold():
            return port_taken(*host_and_port(launch.url), restart=launch.command(VLLM.name, port=0))
        known = {"title": VLLM.title, "model": launch.model, **log_of(log)}
        if (most := _greatest_context(why)) is not None:
            restart = launch.command(VLLM.name, context=most)
            return fault("start.context", why=f": {why.rstrip('.')}", restart=restart, **known)
        return fault_of(
            why,
            **known,
            restart=launch.command(VLLM.name, **_less_memory(why, launch.wanted)),
            install=f"{VLLM.upgrade} --force-reinstall",
            upgrade=VLLM.upgrade,
            usage=f"{quoted(launch.argv[0])} serve --help=all",
        )


def _less_memory(why: str, wanted: Wanted) -> dict[str, object]:
    """Return with what it may fit, in place of what was asked for and did not."""
    others, asked = _without_share(wanted.arguments)
    if "is less than desired" in why:
        share = next((each for each in _SMALLER if asked is None or each < asked), None)
    elif "for the cache blocks" in why:
        share = _GREATEST if asked is None or asked < _GREATEST else None
    else:
        share = None
    return {"context": 4096} if share is None else {"arguments": (*others, _SHARE, str(share))}


def _without_share(arguments: tuple[str, ...]) -> tuple[tuple[str, ...], float | None]:
    """Split off which share of the memory was asked for; of several vLLM takes the last."""
    others: list[str] = []
    asked = None
    words = iter(arguments)
    for word in words:
        name, has_value, value = word.partition("=")
        if name.replace("_", "-") == _SHARE:
            asked = _number(value if has_value else next(words, ""))
        else:
            others.append(word)
    return tuple(others), asked


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _greatest_context(why: str) -> int | None:
    """Return how much context would fit, where the reason is that more was asked for."""
    found = re.search(r"max_position_embeddings=(\d+)|estimated maximum model length is (\d+)", why)
    found = found or re.search(r"max_model_len=(\d+)\b.*derived|derived max_model_len \(\D*(\d+)", why)
    number = next((int(each) for each in found.groups() if each), 0) if found is not None else 0
    return number or None


def _check_model(model: str) -> None:
    """Look at a folder; a name is vLLM's to find. Raises ``Refused`` and ``StartFailed``."""
    if model.startswith("-"):
        raise Refused(wrong_start("a model's name does not begin with a dash"))
    if not os.path.isabs(model):
        return
    if not os.path.exists(model):
        # vLLM would take it for a name, and try to download it.
        raise StartFailed(fault("start.no_file", path=model, directory=os.path.dirname(model)))
    if os.path.isdir(model) and not any(
        os.path.isfile(os.path.join(model, name)) for name in ("config.json", "params.json")
    ):
        path = os.path.join(model, "config.json")
        raise StartFailed(fault("start.no_file", path=path, directory=model))


def _alias_of(model: str) -> str:
    """Name a model as it is asked for: a name as it is, a folder by its own."""
    name = os.path.basename(model.rstrip("/")) if os.path.isabs(model) else model
    return re.sub(r"[\x00-\x1f\x7f]", "-", name).lstrip("-") or "model"


def _refused(arguments: tuple[str, ...]) -> Iterator[str]:
    """Yield the flags that are not passed on. vLLM takes ``_`` for ``-``, and the beginning of a name."""
    for word in arguments:
        name = word.split("=", 1)[0].replace("_", "-")
        if name in _NEVER or (
            len(name) > 2 and name.startswith("--") and any(flag.startswith(name) for flag in _NEVER)
        ):
            yield word.split("=", 1)[0]


def _environment(base: Mapping[str, str]) -> dict[str, str]:
    kept = {name: text for name, text in without_ours(base).items() if name not in _UNSET}
    # It reports its use to its makers unless told not to; nothing leaves this device unasked.
    return kept | {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def _notes(base: Mapping[str, str]) -> tuple[str, ...]:
    if not base.get("VLLM_API_KEY"):
        return ()
    return ("VLLM_API_KEY is not passed on: the server that hived starts listens on this device only",)
