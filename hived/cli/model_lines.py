"""The models of a server, as lines of a screen: those that are loaded in columns, the others as a sum."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from hived.cli.columns import bar, columns, cut, cut_middle, padded, widest
from hived.cli.rendering import coloured, duration, size, where
from hived.cli.running import shown
from hived_client.vocabulary.lasting import remaining
from hived_client.vocabulary.world import Model

MARGIN = "  "
MOST = 20
"""Models of a server that have a line each, unless all are asked for."""
NAMED = 5
"""Names at most on the line that sums up the others."""
SHORTEST_NAME = 24
"""Columns that a name keeps before facts give way to it: it is what people copy."""
NARROW = 100
"""Columns below which units are short."""

SHOWN = ("state", "context", "memory", "place", "can", "quantization", "weights", "more")
"""Columns, as they stand."""
GIVE_WAY = ("more", "weights", "quantization", "can", "memory", "context", "place")
"""Columns that are left out on a narrow screen, the first of these first."""


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The models of one server: those with a line each, and those that are only counted."""

    listed: tuple[Model, ...]
    summed: tuple[Model, ...]
    sum_word: str


def group(models: Sequence[Model], *, up: bool, everything: bool) -> Group:
    """Sort models into those that are there to be called now, and those that are not.

    A server that never tells which of its models are loaded has them all listed.
    """
    if everything:
        return Group(listed=tuple(models), summed=(), sum_word="")
    if not up:
        return Group(listed=(), summed=tuple(models), sum_word="known")
    tells = any(model.state is not None for model in models)
    resting = ("unloaded", None) if tells else ("unloaded",)
    listed = [model for model in models if model.state not in resting]
    summed = [model for model in models if model.state in resting]
    if len(listed) > MOST:
        return Group(listed=tuple(listed[:MOST]), summed=(*listed[MOST:], *summed), sum_word="more")
    return Group(listed=tuple(listed), summed=tuple(summed), sum_word="not loaded")


def widths_of(groups: Iterable[Group], width: int) -> dict[str, int]:
    """Return the columns of the whole screen and their widths: what does not fit has none.

    ``width``: columns of the screen; 0: no limit. The name's own is under ``name``.
    """
    models = [model for each in groups for model in each.listed if model.progress is None]
    named = [model for each in groups for model in each.listed]
    facts = [facts_of(model, width) for model in models]
    widths = {name: widest(each[name] for each in facts) for name in SHOWN}
    widths["state"] = widest(model.state or "" for model in named)
    widths = {name: taken for name, taken in widths.items() if taken}
    wanted = widest(shown(model.name) for model in named)
    room = width - len(MARGIN)
    for name in GIVE_WAY:
        if width <= 0 or room - _taken(widths) >= min(wanted, SHORTEST_NAME):
            break
        widths.pop(name, None)
    left = wanted if width <= 0 else min(wanted, max(1, room - _taken(widths)))
    return widths | {"name": left}


def model_lines(each: Group, widths: Mapping[str, int], width: int, *, gone: bool = False) -> Iterable[str]:
    """Yield the lines of one server's models; ``gone``: nobody knows whether they still hold."""
    for model in each.listed:
        yield _line(model, widths, width, gone=gone)
    if each.summed:
        sign = "+ " if each.listed or each.sum_word == "not loaded" else ""
        yield with_models(f"{MARGIN}{sign}".rstrip(), each.summed, each.sum_word, width)


def with_models(line: str, models: Sequence[Model], word: str, width: int) -> str:
    """Return a line with how many models there are, how big they are, and as many of their names as fit."""
    sizes = [model.size for model in models if model.size is not None]
    whole = f" ({size(sum(sizes))})" if len(sizes) == len(models) else ""
    many = "1 model" if len(models) == 1 else f"{len(models)} models"
    line = f"{line} {many} {word}{whole}" if line.strip() else f"{MARGIN}{many} {word}{whole}"
    names: list[str] = []
    for model in models[:NAMED]:
        longer = [*names, shown(model.name)]
        if width > 0 and columns(_listed(line, longer, len(models))) > width:
            break
        names = longer
    return cut(_listed(line, names, len(models)), width)


def facts_of(model: Model, width: int = 0) -> dict[str, str]:
    """Return what is shown of a model, by column; an unknown fact is an empty text."""
    tokens, memory = ("tok", "mem") if 0 < width < NARROW else ("tokens", "memory")
    loaded, native = model.loaded_context, model.context
    context = ""
    if loaded is not None:
        context = (
            f"{loaded:,} of {native:,} {tokens}" if native not in (None, loaded) else f"{loaded:,} {tokens}"
        )
    elif native is not None:
        context = f"up to {native:,} {tokens}"
    more = [
        f"{len(model.adapters)} adapters" if model.adapters else "",
        "place unknown" if model.unplaced is not None else "",
        where(model.locality) if model.locality not in (None, "device") else "",
    ]
    return {
        "state": model.state or "",
        "context": context,
        "memory": f"{size(model.memory)} {memory}" if model.memory is not None else "",
        "place": _place(model),
        "can": shown(" ".join(c for c in model.capabilities or () if c != "completion")),
        "quantization": shown(model.quantization or ""),
        "weights": f"{size(model.size)} weights" if model.size is not None else "",
        "more": "  ".join(each for each in more if each),
    }


def _line(model: Model, widths: Mapping[str, int], width: int, *, gone: bool) -> str:
    name = padded(cut_middle(shown(model.name), widths["name"]), widths["name"])
    facts = facts_of(model, width)
    state = padded(facts["state"], widths.get("state", 0))
    if model.progress is not None:
        rest = remaining(None if model.since is None else time.time() - model.since, model.progress)
        going = f"{bar(model.progress)} {model.progress:4.0%}"
        going += f"  about {duration(rest)} more" if rest is not None else ""
        cells = [state, going]
    else:
        cells = [padded(facts[column], widths[column]) for column in SHOWN if column in widths]
    line = cut("  ".join([MARGIN + name, *cells]).rstrip(), width)
    head = len(MARGIN + name) + 2
    if gone:
        return line
    # Coloured last: what colours is not a column.
    body = line[head:].replace(facts["state"], coloured(facts["state"], model.state), 1)
    if model.offload is not None and model.offload < 1:
        body = body.replace(facts["place"], coloured(facts["place"], "loading"), 1)
    return line[:head] + body


def _place(model: Model) -> str:
    if model.offload is None:
        return {"cpu": "CPU", "gpu": "GPU", "cpu+gpu": "CPU and GPU"}.get(model.device or "", "")
    return "on the CPU" if model.offload == 0 else f"{model.offload:.0%} GPU"


def _taken(widths: Mapping[str, int]) -> int:
    return sum(each + 2 for each in widths.values())


def _listed(line: str, names: Sequence[str], of: int) -> str:
    rest = ["…"] if len(names) < of else []
    return f"{line}: {', '.join([*names, *rest])}" if names else line
