"""hived inside Hive: its model provider learns how a local model is called, and everything else stays.

    import hived_client.agent.hive

    hived_client.agent.hive.install()

``framework.llm.litellm.LiteLLMProvider`` is where every agent of Hive's, old and new, gets its model: its
constructor is wrapped, and ``reconfigure``, where there is one. A local model is named, addressed and given
its context as hived says; its calls are looked after (``hive_calls``). A cloud model is none of our
business: whatever goes wrong here, its call is what it was.

Known to fit Hive at a0d14b8a2 (2026-02, LiteLLM 1.81.7) and 54fd8db4e (2026-08, LiteLLM 1.83.4).
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from hived_client.agent.hive_calls import Attended, model_for
from hived_client.agent.hive_mapping import Foreign, Plan, foreign_to, is_ours, plan_for
from hived_client.errors import HivedError, NotReady
from hived_client.resolution import Target
from hived_client.vocabulary.kinds import is_local_model, kind_of_prefix
from hived_client.vocabulary.world import World

MODULE = "framework.llm.litellm"
RESOLVE = 0.05
"""Seconds that hived may take where a provider is made: that may happen on Hive's event loop."""
STRICT = "HIVED_STRICT"
"""Set to 1: a model that cannot be called now is an error where its provider is made."""

_MARK = "__hived__"
_ADDED = "_hived_added"
_OPTIONS = "kwargs"
"""What Hive's constructor calls the further arguments that it adds to each call."""

log = logging.getLogger("hived")


def install(module: Any = None) -> bool:
    """Plug hived into Hive. Idempotent; return whether Hive is here and can be plugged into.

    ``module``: Hive's ``framework.llm.litellm``, which is imported otherwise (seconds). Raises what that
    import raises, except that there is none.
    """
    if module is None:
        try:
            module = importlib.import_module(MODULE)
        except ModuleNotFoundError as error:
            if error.name is not None and MODULE.startswith(error.name):
                return False
            raise
    provider = getattr(module, "LiteLLMProvider", None)
    if provider is None or getattr(module, "litellm", None) is None:
        return False  # a Hive without LiteLLM says so itself
    if not isinstance(module.litellm, Attended):
        module.litellm = Attended(module.litellm)
    _wrap(provider, "__init__", module)
    if hasattr(provider, "reconfigure"):
        _wrap(provider, "reconfigure", module)
    return True


def uninstall(module: Any = None) -> None:
    """Take hived out of Hive again. Idempotent; models that are in use keep what they were told."""
    module = module or sys.modules.get(MODULE)
    if module is None:
        return
    if isinstance(module.litellm, Attended):
        module.litellm = module.litellm.__dict__["_litellm"]
    for name in ("__init__", "reconfigure"):
        original = getattr(vars(module.LiteLLMProvider).get(name), _MARK, None)
        if original is not None:
            setattr(module.LiteLLMProvider, name, original)


def _wrap(provider: type, name: str, module: Any) -> None:
    original = getattr(provider, name)
    if hasattr(original, _MARK):
        return
    signature = inspect.signature(original)

    @functools.wraps(original)
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        given = _given(signature, self, args, kwargs)
        plan = _plan(given, module) if given is not None else None
        if given is None or plan is None:
            _forget(self)
            original(self, *args, **kwargs)
            return
        _tell(plan)
        mapped = _mapped(given, plan, module)
        original(*mapped.args, **mapped.kwargs)
        _settle(self, given, plan)
        module.litellm.attend(self.model, self.api_base, plan)

    setattr(made, _MARK, original)
    setattr(provider, name, made)


def _given(
    signature: inspect.Signature, self: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> inspect.BoundArguments | None:
    """Return what the caller gave, with defaults; ``None`` where the original is to say what is wrong."""
    try:
        given = signature.bind(self, *args, **kwargs)
    except TypeError:
        return None
    given.apply_defaults()
    return given if isinstance(given.arguments.get("model"), str) else None


def _plan(given: inspect.BoundArguments, module: Any) -> Plan | None:
    """Return how to call a local model; ``None`` for one that is not local. Raises ``NotReady``."""
    model = given.arguments["model"]
    try:
        if not _is_ours(model, module):
            return None
        return _planned(given, model)
    except Exception as error:
        if not is_local_model(model):
            return None  # a cloud model is called as it always was
        if isinstance(error, NotReady):
            raise
        log.debug("hived could not be asked for %s", model, exc_info=True)
        return _blind(given, model)


def _planned(given: inspect.BoundArguments, model: str) -> Plan:
    from hived_client.doors.sync import shared

    resolve = functools.partial(shared.resolve, timeout=RESOLVE)
    return _decide(given, model, _foreign(given, model), resolve, lambda: shared.world().world)


def _blind(given: inspect.BoundArguments, model: str) -> Plan:
    """Return how to call a local model by the table alone: its address is never left out."""

    def unknown(question: str) -> Target:
        from hived_client.vocabulary.faults import fault

        raise NotReady(fault("daemon.absent"))

    try:
        foreign = _foreign(given, model)
    except Exception:  # noqa: BLE001 - what Hive has raised says nothing of whose they are
        foreign = None
    return _decide(given, model, foreign, unknown, lambda: World(generation=0))


def _decide(
    given: inspect.BoundArguments,
    model: str,
    foreign: Foreign | None,
    resolve: Callable[[str], Target],
    world: Callable[[], World],
) -> Plan:
    """``foreign`` is ``None`` where nobody knows whose address and keys those are: none of them is used."""
    several = given.arguments.get("api_keys") if foreign is not None else None
    keys = [given.arguments.get("api_key")] if foreign is not None else []
    keys += several if isinstance(several, list) else []
    return plan_for(
        model,
        api_base=given.arguments.get("api_base") if foreign is not None else None,
        keys=[key for key in keys if isinstance(key, str)],
        foreign=foreign or Foreign(),
        resolve=resolve,
        world=world,
        environment=os.environ,
    )


def _is_ours(model: str, module: Any) -> bool:
    if is_local_model(model):
        return True
    prefix, slash, _ = model.partition("/")
    known = {str(getattr(each, "value", each)) for each in getattr(module.litellm, "provider_list", ())}
    if not slash or not known or prefix.casefold() in known:
        return False
    from hived_client.doors.files import Files

    snapshot = Files().look().snapshot
    names = [n for head in snapshot.heads for n in (head.name, *head.aliases)] if snapshot else []
    return is_ours(model, names, known)


def _foreign(given: inspect.BoundArguments, model: str) -> Foreign:
    """Return what Hive gives with every model, and that belongs to another provider than this one."""
    settings = sys.modules.get("framework.config")
    read = getattr(settings, "get_hive_config", None)
    if read is None:
        return Foreign()
    configuration = read()
    if not isinstance(configuration, Mapping):
        return Foreign()
    found = foreign_to(kind_of_prefix(model.partition("/")[0]), configuration, os.environ)
    section = configuration.get("llm")
    if isinstance(section, Mapping) and any(
        str(name).startswith("use_") and value for name, value in section.items()
    ):
        # A subscription: its address and its token are nowhere in the configuration.
        bases, keys = (_said(settings, name) for name in ("get_api_base", "get_api_key"))
        found = Foreign(bases=(*found.bases, *bases), keys=(*found.keys, *keys))
    return found


def _said(settings: Any, name: str) -> tuple[str, ...]:
    value = getattr(settings, name, lambda: None)()
    return (value,) if isinstance(value, str) and value else ()


def _mapped(given: inspect.BoundArguments, plan: Plan, module: Any) -> inspect.BoundArguments:
    """Return the arguments for the original: those of the caller, with hived's."""
    target = plan.target
    litellm = module.litellm.__dict__["_litellm"]
    arguments = dict(given.arguments)
    arguments |= {"model": model_for(litellm, target), "api_base": target.api_base}
    arguments["api_key"] = target.api_key
    if "api_keys" in arguments:
        kept = [key for key in arguments["api_keys"] or () if key in plan.keys]
        arguments["api_keys"] = kept or None
    if arguments.get("api_key_resolver") is not None and not plan.keys:
        arguments["api_key_resolver"] = None  # it would bring another provider's key
    if _OPTIONS in arguments:
        arguments[_OPTIONS] = _options(arguments[_OPTIONS], target)
    mapped = inspect.BoundArguments(given.signature, given.arguments.__class__())
    mapped.arguments.update(arguments)
    return mapped


def _options(options: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """Return the further arguments of each call: the context only where a server takes one."""
    kept = {name: value for name, value in options.items() if target.extra or name != "num_ctx"}
    return {**target.extra, **kept}


def _settle(self: Any, given: inspect.BoundArguments, plan: Plan) -> None:
    """Remember what was added to each call; add it where the model was changed, which Hive does without."""
    if _OPTIONS in given.arguments:
        asked = given.arguments[_OPTIONS]
    else:
        _forget(self)
        asked = dict(self.extra_kwargs)
        self.extra_kwargs.update(
            {name: value for name, value in plan.target.extra.items() if name not in asked}
        )
    setattr(self, _ADDED, tuple(name for name in plan.target.extra if name not in asked))


def _forget(self: Any) -> None:
    """Take back what was added to each call for the model that was there before."""
    for name in getattr(self, _ADDED, ()):
        self.extra_kwargs.pop(name, None)
    if hasattr(self, _ADDED):
        setattr(self, _ADDED, ())


def _tell(plan: Plan) -> None:
    """Say once, where a provider is made, that its model cannot be called now."""
    if plan.problem is None:
        return
    if os.environ.get(STRICT) == "1":
        raise NotReady(plan.problem)
    log.warning("%s", HivedError(plan.problem))
