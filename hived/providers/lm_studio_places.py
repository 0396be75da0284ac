"""Which of the models that LM Studio lists are certainly run on this device.

With LM Link, models of linked devices are listed and called as if they were here, and nothing in its HTTP
API marks them (its SDK has a ``deviceIdentifier``). Worse, a model that is here as well is sent to a linked
device where that one has it loaded or is the preferred one. So two things are needed to vouch for a model:
its weights are on this device's disk, and LM Link is not in use. What cannot be vouched for has no place.

Read, and only read, below LM Studio's own folder:

    .internal/model-index-cache.json               which file every key means; keys differ from file names
    .internal/bundled-models, the models folder    what the index does not know
    hub/models/OWNER/NAME/model.yaml               a name of the catalogue, and the folders that it may mean
    .internal/lm-link-config.json                  ``forceDisabled``: LM Link was switched off
    .internal/lm-link-account-status-cache.json    without an account there is no LM Link

The sibling app keeps the same under ``apps/bionic``. None of these files is documented: their fields are
those that are reported of 0.4, and a field that is missing never makes a model one of this device.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

import anyio
import anyio.to_thread
import msgspec

from hived.providers.disk_huggingface import read_json, read_small
from hived.providers.disk_lm_studio import (
    folders_in,
    listener_ports,
    models_folder,
    read_models,
    server_port,
    studio_folder,
)
from hived.providers.fields import inner, is_object, items, text, texts
from hived_client.vocabulary.faults import Fault, Value, fault
from hived_client.vocabulary.kinds import LM_STUDIO, command

DISK_TIMEOUT = 0.5
"""Seconds for what the disk has to say; a disk that hangs must not hold up a look."""
LEAST_SIZE = 1024 * 1024
"""Bytes from which on the same size means the same weights."""

_APPS = ("", os.path.join("apps", "bionic"))
_INDEX = os.path.join(".internal", "model-index-cache.json")
_CONFIG = os.path.join(".internal", "lm-link-config.json")
_ACCOUNT = os.path.join(".internal", "lm-link-account-status-cache.json")
_BUNDLED = os.path.join(".internal", "bundled-models")
_NO_ACCOUNT = frozenset({"notloggedin", "noaccess"})
"""States of an account with which LM Link does not start."""
_OWN_NAMES = (
    "indexedModelIdentifier",
    "defaultIdentifier",
    "originalIndexedModelIdentifier",
    "altIndexedModelIdentifier",
)
_EMBEDDING = "text-embedding-"
"""How the key of a model for embeddings begins, whatever its file is called."""

Mark = tuple[tuple[str, int, int], ...]


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the models on this device."""

    folder: str
    """The models folder."""
    names: frozenset[str]
    """Every name of a model whose weights are here, folded."""
    sizes: frozenset[int]
    """Bytes that a model has which is here. Only where there is no index, as before there was LM Link: two
    tunings of one model often have the same size to the byte."""
    is_readable: bool
    is_linked: bool
    """Whether LM Link may be in use."""


class Places:
    """What the disk says, read in a thread and again only when something there has changed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._known: tuple[Mark, Here] | None = None
        self._ports: tuple[int, ...] = ()
        self.last_served: int | None = None
        """The port at which its HTTP server was last, as the app remembers it."""
        self._turn = anyio.Lock()
        self._is_reading = False
        self.reads = 0

    def __repr__(self) -> str:
        return f"<Places of LM Studio, read {self.reads} times>"

    async def here(self) -> Here:
        """Return what is here: as it is now, or, where the disk does not answer in time, as it was last."""
        await self._refresh()
        return self._known[1] if self._known is not None else UNREAD

    @property
    def folder(self) -> str:
        """The models folder, as it was last read; empty until then."""
        return self._known[1].folder if self._known is not None else ""

    async def ports(self) -> tuple[int, ...]:
        """Return where an open LM Studio may listen for its own clients, likewise."""
        await self._refresh()
        return self._ports

    async def _refresh(self) -> None:
        with anyio.move_on_after(DISK_TIMEOUT):
            async with self._turn:
                # A thread that was given up on still runs: a disk that hangs costs this one, not one a look.
                if not self._is_reading:
                    await anyio.to_thread.run_sync(self._read, abandon_on_cancel=True)

    def _read(self) -> None:
        if not self._environment.get("HOME"):
            return
        self._is_reading = True
        try:
            folder = studio_folder(self._environment)
            self._ports = listener_ports(self._environment)
            self.last_served = server_port(folder)
            mark = _mark(folder)
            if self._known is None or self._known[0] != mark:
                self.reads += 1
                self._known = (mark, read_here(folder))
        finally:
            self._is_reading = False


UNREAD = Here(folder="", names=frozenset(), sizes=frozenset(), is_readable=False, is_linked=False)


def unplaced(model: str, names: Iterable[str], size: int | None, here: Here) -> Fault | None:
    """Say why it is not certain that a model runs on this device; ``None`` where it is. Pure.

    ``names`` are all names that the server has for it, ``size`` its bytes as the server tells them.
    """
    fields: dict[str, Value] = {"model": model}
    if here.is_linked:
        fields["why"] = "LM Link is in use, which may send a call to any device that has the model"
    elif not here.is_readable:
        fields |= {"why": "the models folder of this device cannot be read", "folder": here.folder or None}
    elif _has(here, names, size):
        return None
    else:
        pull = command(LM_STUDIO.pull, model)
        fields |= {"why": "it is not in the models folder of this device", "pull": pull}
    return fault("model.maybe_linked", **fields)


def _has(here: Here, names: Iterable[str], size: int | None) -> bool:
    if any(each in here.names for name in names for each in _written(name)):
        return True
    return size is not None and size >= LEAST_SIZE and size in here.sizes


def read_here(folder: str) -> Here:
    """Read what LM Studio's own folder says. Blocks; never raises."""
    names: set[str] = set()
    sizes: set[int] = set()
    for app in _APPS:
        for entry in _there(os.path.join(folder, app, _INDEX)):
            names |= set(_names_of(entry))
    indexed = bool(names)
    models = models_folder(folder)
    for place in (models, *(os.path.join(folder, app, _BUNDLED) for app in _APPS)):
        _add_folder(place, names, sizes)
    _add_catalogue(os.path.join(folder, "hub", "models"), names)
    return Here(
        folder=models,
        names=frozenset(names),
        sizes=frozenset() if indexed else frozenset(sizes),
        is_readable=indexed or os.access(models, os.R_OK | os.X_OK),
        is_linked=any(_may_be_linked(os.path.join(folder, app)) for app in _APPS),
    )


def _mark(folder: str) -> Mark:
    """Return what differs as soon as something in these folders does: dates and sizes."""
    paths = [os.path.join(folder, app, file) for app in _APPS for file in (_INDEX, _CONFIG, _ACCOUNT)]
    models = models_folder(folder)
    for above in (models, os.path.join(folder, _BUNDLED), os.path.join(folder, "hub", "models")):
        paths.append(above)
        for publisher in folders_in(above):
            path = os.path.join(above, publisher)
            paths += [path, *(os.path.join(path, name) for name in folders_in(path))]
    return tuple(filter(None, map(_dated, paths)))


def _dated(path: str) -> tuple[str, int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return path, found.st_mtime_ns, found.st_size


# What the index says.


def _there(path: str) -> Iterator[Mapping[str, object]]:
    """Yield the entries of an index whose weights are on this disk."""
    entries = list(items(read_json(path).get("models")))
    here: set[str] = set()
    for entry in entries:
        if not is_object(entry.get("virtual")) and _has_weights(entry):
            here |= {name.casefold() for name in _own_names(entry)}
            yield entry
    for entry in entries:
        told = entry.get("virtual")
        if not is_object(told):
            continue
        # A name of the catalogue, which stands for one of several files.
        chain = texts(told.get("baseChain"))
        concrete = text(told.get("concreteModelIndexedModelIdentifier")) or (chain[-1] if chain else None)
        if concrete is not None and concrete.casefold() in here:
            yield entry


def _has_weights(entry: Mapping[str, object]) -> bool:
    """Tell whether the weights of an entry are where it says, through links too: users move models."""
    point = text(inner(entry, "entryPoint", "absPath"), 4096)
    if point is not None and _is_weights(point):
        return True
    folder = text(entry.get("containingDirAbsolutePath"), 4096)
    name = text(entry.get("indexedModelIdentifier")) or ""
    if folder is None or not os.path.isabs(folder):
        return False
    if name.casefold().endswith(".gguf"):
        return _is_weights(os.path.join(folder, os.path.basename(name)))
    return _is_weights(folder)


def _is_weights(path: str) -> bool:
    if not os.path.isabs(path):
        return False
    try:
        if os.path.isfile(path):
            return path.casefold().endswith((".gguf", ".safetensors"))
        with os.scandir(path) as entries:
            return any(e.name.endswith((".gguf", ".safetensors")) and e.is_file() for e in entries)
    except (OSError, ValueError):
        return False


def _own_names(entry: Mapping[str, object]) -> Iterator[str]:
    for field in _OWN_NAMES:
        name = text(entry.get(field))
        if name is not None:
            yield name
    yield from texts(entry.get("autoIdentifiers"))


def _names_of(entry: Mapping[str, object]) -> Iterator[str]:
    chain = texts(inner(entry, "virtual", "baseChain"))
    for name in (*_own_names(entry), *chain[:1]):
        yield name.casefold()
        yield name.casefold().partition("@")[0]


# What the folders say, where there is no index or it is older than they are.


def _add_folder(folder: str, names: set[str], sizes: set[int]) -> None:
    for model in read_models(folder):
        if model.state == "downloading":
            continue
        identity = model.name.partition(":")[0].casefold()
        names |= {model.name.casefold(), identity, _stem(identity)}
        if model.file is not None:
            file = os.path.basename(model.file).casefold()
            names |= {f"{identity}/{file}", _stem(file)}
        if model.size is not None:
            sizes.add(model.size)


def _add_catalogue(folder: str, names: set[str]) -> None:
    """Add the names of the catalogue whose description mentions a folder that is here."""
    here = [name for name in names if name.count("/") == 1]
    for owner in folders_in(folder):
        for name in folders_in(os.path.join(folder, owner)):
            raw = read_small(os.path.join(folder, owner, name, "model.yaml"), 64 * 1024) or b""
            words = set(raw.decode(errors="replace").casefold().replace('"', " ").replace("'", " ").split())
            if any(each in words for each in here):
                names.add(f"{owner}/{name}".casefold())


def _stem(name: str) -> str:
    """Return a name as LM Studio makes a key of it: without folders, extension and kind of file."""
    stem = name.rpartition("/")[2]
    for ending in (".gguf", "-gguf"):
        stem = stem.removesuffix(ending)
    return stem


def _written(name: str) -> Iterator[str]:
    """Yield how a name of the server's may be written on disk: not as one of several, nor as a variant."""
    whole = name.casefold()
    yield whole
    key, _, number = whole.rpartition(":")
    plain = (key if number.isdecimal() else whole).partition("@")[0]
    yield plain
    yield plain.removeprefix(_EMBEDDING)


# Whether there is a link.


def _may_be_linked(folder: str) -> bool:
    """Tell whether LM Link may be in use; when in doubt it may."""
    config, account = _told(os.path.join(folder, _CONFIG)), _told(os.path.join(folder, _ACCOUNT))
    if config is not None and config.get("forceDisabled") is True:
        return False
    if account is None:
        return True
    status = account.get("accountStatus")
    return bool(account) and not (isinstance(status, str) and status.casefold() in _NO_ACCOUNT)


def _told(path: str) -> Mapping[str, object] | None:
    """Return what such a file says, nothing where there is none, ``None`` where it cannot be understood."""
    try:
        if os.stat(path).st_size == 0:
            return {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return None
    try:
        document: object = msgspec.json.decode(read_small(path, LEAST_SIZE) or b"")
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    wrapped = inner(document, "json")
    if is_object(wrapped):
        return wrapped
    return document if is_object(document) else None
