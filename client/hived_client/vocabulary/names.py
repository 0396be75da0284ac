"""How a model's name is read and matched. Pure.

``<endpoint>/<model>`` is always valid; ``<provider>/<model>`` picks among the provider's endpoints.
Prefixes match in any case and a doubled prefix (``ollama/ollama/x``, which Hive writes) is undone.
llama.cpp matches a model by id, alias, file name or stem.

Ollama's names have parts of which most may be left out, and are compared in any case:
``registry.ollama.ai/library/x:latest``, ``library/x`` and ``x`` are one model, and it is listed as
``x:latest``. The namespace is left out only with the host (``registry.ollama.ai/user/x`` is ``user/x``),
and nothing of another registry's names is (``hf.co/library/x``). A ``:`` separates a tag only behind the
last ``/``: before it, it belongs to a port. ``:local`` says that the cloud's model is not meant.
"""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Sequence

import msgspec

from hived_client.vocabulary.kinds import ProviderKind, Registry, kind_named, kind_of_prefix
from hived_client.vocabulary.world import Model


class Name(msgspec.Struct, frozen=True):
    """A model's name as the user wrote it, cut at its prefix."""

    prefix: str
    model: str
    kind: ProviderKind | None
    """The kind that the prefix stands for, unless an endpoint has that name."""
    written: str = ""
    """The model as it was written, before a doubled prefix was undone."""


def parse(written: str, endpoints: Iterable[str], more: tuple[ProviderKind, ...] = ()) -> Name | None:
    """Cut a name at its prefix; ``None`` where there is none. An endpoint's name wins over a kind's."""
    prefix, slash, model = written.strip().partition("/")
    if not slash or not prefix or not model:
        return None
    folded = prefix.casefold()
    if any(folded == name.casefold() for name in endpoints):
        return Name(prefix=prefix, model=undouble(model, (folded,)), kind=None, written=model)
    kind = kind_of_prefix(folded, more)
    short = model if kind is None else undouble(model, kind.prefixes)
    return Name(prefix=prefix, model=short, kind=kind, written=model)


def undouble(model: str, prefixes: tuple[str, ...]) -> str:
    """Undo a repeated prefix: ``ollama/llama3`` under ``ollama`` is ``llama3``."""
    head, slash, rest = model.partition("/")
    return rest if slash and rest and head.casefold() in prefixes else model


def find(models: tuple[Model, ...] | None, wanted: str, provider: str = "") -> Model | None:
    """Return the model that this name means: by name, then alias, then file name, then file stem.

    ``provider``: whose models they are; what may be left out of its names may also be written.
    """
    if not models:
        return None
    index = _index(models)
    position = index.get(wanted.casefold())
    if position is None and provider:
        kind = kind_named(provider)
        if kind is not None and kind.registry is not None:
            position = index.get(full_name(wanted, kind.registry).casefold())
    return None if position is None else models[position]


def short_name(written: str, registry: Registry) -> str:
    """Return a name without what goes without saying: scheme, host and namespace, and the usual tag."""
    name = written.partition("://")[2] or written
    parts = name.split("/")
    if len(parts) == 3 and parts[0].casefold() == registry.host:
        del parts[0]
    if len(parts) == 2 and parts[0].casefold() == registry.namespace:
        del parts[0]
    model = parts[-1]
    for usual in (":local", f":{registry.tag}"):
        if model.casefold().endswith(usual) and len(model) > len(usual):
            model = model[: -len(usual)]
    return "/".join((*parts[:-1], model))


def full_name(written: str, registry: Registry) -> str:
    """Return a name as the server lists it: shortened, and always with its tag."""
    short = short_name(written, registry)
    return short if ":" in short.rpartition("/")[2] else f"{short}:{registry.tag}"


def is_name(written: str, registry: Registry) -> bool:
    """Tell whether a registry may have something of that name: whether it can be asked for at all."""
    name = written.partition("://")[2] or written
    *above, last = name.split("/")
    model, colon, tag = last.rpartition(":") if ":" in last else (last, "", "")
    if len(above) > 2 or not _is_part(model, _MARKS) or (colon and not _is_part(tag, _MARKS)):
        return False
    if above and not _is_part(above[-1], _MARKS - {"."}):
        return False
    return len(above) < 2 or _is_part(above[0], _MARKS | {":"}, longest=350)


_MARKS = frozenset("_-.")


def _is_part(part: str, marks: frozenset[str], longest: int = 80) -> bool:
    """Tell whether this is a part of a name: ASCII letters, digits and marks, and first no mark but ``_``."""
    if not part.isascii() or not 0 < len(part) <= longest or not (part[0].isalnum() or part[0] == "_"):
        return False
    return all(letter.isalnum() or letter in marks for letter in part)


_MOST_COMPARED = 48
"""Names that are compared letter by letter; of more than that, those that share most with the wanted one."""


def near(wanted: str, names: Sequence[str], most: int = 3) -> tuple[str, ...]:
    """Return the names that look most like the wanted one, best first."""
    import difflib  # only a "no" pays for these
    import heapq

    folded = {name.casefold(): name for name in names}
    if len(folded) > _MOST_COMPARED:
        # The full comparison costs some 50 µs a name, and the daemon's loop waits for it.
        pieces = {wanted.casefold()[at : at + 3] for at in range(min(24, max(1, len(wanted) - 2)))}
        alike = heapq.nlargest(_MOST_COMPARED, folded, key=lambda name: sum(map(name.__contains__, pieces)))
        folded = {name: folded[name] for name in alike}
    close = difflib.get_close_matches(wanted.casefold(), folded, n=most, cutoff=0.5)
    return tuple(folded[name] for name in close)


# Finding one of 500 models by a scan would cost more than everything else that a question does, so each
# tuple of models is indexed once. Keyed by identity (hashing the content would cost the scan again); the
# tuple is kept beside its index, so an identity can not be reused while its entry stands. Every change of an
# inventory is another tuple: the oldest go, or a large one that changes often would be kept many times over.
_INDEXES: dict[int, tuple[tuple[Model, ...], dict[str, int]]] = {}
_MOST_INDEXED = 16_384
"""Models in all indexes together; one inventory may have more."""


def _index(models: tuple[Model, ...]) -> dict[str, int]:
    known = _INDEXES.get(id(models))
    if known is not None:
        return known[1]
    index: dict[str, int] = {}
    for names in (_names, _aliases, _files, _stems):
        for position, model in enumerate(models):
            for name in names(model):
                index.setdefault(name.casefold(), position)
    _forget(len(models))
    _INDEXES[id(models)] = (models, index)
    return index


def _forget(room: int) -> None:
    """Drop the oldest indexes, until there is room for so many models. Other threads may do so too."""
    kept = tuple(_INDEXES.items())
    too_many = room + sum(len(models) for _, (models, _) in kept) - _MOST_INDEXED
    for identity, (models, _) in kept:
        if too_many <= 0:
            return
        _INDEXES.pop(identity, None)
        too_many -= len(models)


def _names(model: Model) -> tuple[str, ...]:
    return (model.name,)


def _aliases(model: Model) -> tuple[str, ...]:
    return model.aliases


def _files(model: Model) -> tuple[str, ...]:
    return (os.path.basename(model.file),) if model.file else ()


def _stems(model: Model) -> tuple[str, ...]:
    path = model.file or (model.name if model.name.endswith(".gguf") else "")
    base = os.path.basename(path)
    return (base, base.removesuffix(".gguf")) if base else ()
