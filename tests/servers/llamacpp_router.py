"""A llama.cpp ``llama-server`` in router mode: started without a model, it runs one child per model.

On the wire it is what ``transcripts/llamacpp_router.jsonl`` recorded; how states change, and which
event tells of it, follows the real one's ``server-models.cpp``. There are no children: a model's port
is a made-up number.

The trap that this fake exists for: a *GET* with ``model=`` loads that model, and may evict another,
unless it says ``autoload=false``. ``loads`` holds every load and every waking with what caused it, so
that a test can say: nothing that was asked caused a load.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tests.servers.llamacpp_replies import (
    Json,
    completion,
    completion_events,
    error,
    event,
    json_reply,
    loading,
    not_found,
    proxied_reply,
    read_body,
    refusal,
    stream_reply,
)
from tests.servers.loopback import HttpLoopback, Reply, Request, json_bytes
from tests.servers.recordings import recorded

Status = Literal["unloaded", "loading", "loaded", "sleeping", "downloading", "downloaded"]

RUNNING = ("loading", "loaded", "sleeping")
BY_MODEL = ("/slots", "/metrics", "/lora-adapters")
STAGES = 4
"""Events of progress in one load, before the one that says it is done."""
FIRST_PORT = 50001
LOOK = 0.05
"""Seconds between two looks whether a client of the events has hung up; the real one takes 1."""
PATIENCE = 30.0
"""Seconds after which a request that waits for a model gives up: a test hangs no longer than this."""


class Load(NamedTuple):
    """A load of a model, or its waking from sleep, which costs the same."""

    model: str
    cause: str
    """``GET /slots?model=x``, or ``test``."""


@dataclass
class _Model:
    name: str
    source: Literal["models_dir", "cache"] = "models_dir"
    status: Status = "unloaded"
    port: int = 0
    exit_code: int = 0
    asked: Json | None = None
    """The last chat, which ``/slots`` tells of."""
    used: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    """Ends the child that runs now."""
    progress: Json = field(default_factory=dict)


class _Refused(Exception):
    """Carries the reply that ends a request early."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class LlamaCppRouter(HttpLoopback):
    """A router with some models, none of them loaded. ``load_seconds`` and the like may be set anytime."""

    def __init__(
        self,
        models: tuple[str, ...] = ("tiny-a", "tiny-b"),
        *,
        port: int = 0,
        load_seconds: float = 0.05,
        unload_seconds: float = 0.02,
        models_max: int = 1,
    ) -> None:
        super().__init__(port=port)
        self.load_seconds = load_seconds
        self.unload_seconds = unload_seconds
        self.models_max = models_max
        self.loads: list[Load] = []
        self._models = {name: _Model(name) for name in models}
        self._fail: dict[str, int] = {}
        self._key: str | None = None
        self._feeds: list[deque[bytes | None]] = []
        self._uses = 0
        self._next_port = FIRST_PORT
        self._reload = False
        self._changed = threading.Condition(threading.RLock())

    # What a test does to it.

    @property
    def sse_clients(self) -> int:
        """How many listen to the events now."""
        return len(self._feeds)

    def status(self, model: str) -> Status:
        return self._models[model].status

    def wait_status(self, model: str, *wanted: Status, timeout: float = 5.0) -> None:
        """Wait until a model is in one of these states; ``TimeoutError`` if it never is."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.status(model) in wanted, timeout):
                raise TimeoutError(f"{model} should be {wanted}, it is {self.status(model)}")

    def wait_sse_clients(self, count: int, timeout: float = 5.0) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._feeds) == count, timeout):
                raise TimeoutError(f"{count} clients should listen, there are {len(self._feeds)}")

    def load(self, model: str, *, wait: bool = True) -> None:
        """Load a model as if somebody else had asked for it."""
        with self._changed:
            self._load(self._models[model], "test")
        if wait:
            self.wait_status(model, "loaded", "unloaded")

    def unload(self, model: str, *, wait: bool = True) -> None:
        with self._changed:
            self._unload(self._models[model])
        if wait:
            self.wait_status(model, "unloaded")

    def fail_load(self, model: str, exit_code: int = 1) -> None:
        """Let the next load of a model fail."""
        self._fail[model] = exit_code

    def sleep(self, model: str) -> None:
        """Put a loaded model to sleep, as its own idle time would."""
        with self._changed:
            self._set(self._models[model], "sleeping")

    def start_download(self, model: str) -> None:
        with self._changed:
            self._models[model] = _Model(model, source="cache", status="downloading", port=self._take_port())
            self._tell("model_status", model, {"status": "downloading"})

    def progress_download(self, model: str, *, done: int, total: int) -> None:
        """Tell how many bytes of a download are there."""
        with self._changed:
            url = f"https://huggingface.co/{model.partition(':')[0]}/resolve/main/model.gguf"
            self._models[model].progress[url] = {"done": done, "total": total}
            self._tell("download_progress", model, {"progress": dict(self._models[model].progress)})

    def finish_download(self, model: str, *, ok: bool = True) -> None:
        """End a download; the model is there, or gone, when the list is asked for next."""
        with self._changed:
            self._models[model].status = "downloaded"
            if not ok:
                self._models[model].exit_code = 1
            self._reload = True
            self._tell("download_finished" if ok else "download_failed", model, None)

    def remove(self, model: str) -> None:
        """Take a model away, whatever it is doing."""
        with self._changed:
            removed = self._models.pop(model)
            removed.stop.set()
            if removed.status in RUNNING:
                self._set(removed, "unloaded")
            self._tell("model_remove", model, None)

    def require_key(self, key: str | None) -> None:
        self._key = key

    def close_sse(self) -> None:
        """End every stream of events, as a proxy with a time limit would."""
        with self._changed:
            for feed in self._feeds:
                feed.append(None)
            self._changed.notify_all()

    # What it answers.

    def answer(self, request: Request) -> Reply:
        if (refused := refusal(request, self._key)) is not None:
            return refused
        try:
            return self._route(request)
        except _Refused as early:
            return early.reply

    def closed(self) -> None:
        with self._changed:
            for model in self._models.values():
                model.stop.set()
            self._changed.notify_all()

    def _route(self, request: Request) -> Reply:
        match request.method, request.path:
            case "GET" | "HEAD", "/health" | "/v1/health":
                return json_reply(request, {"status": "ok"})
            case "GET", "/models" | "/v1/models":
                return json_reply(request, self._list(reload=bool(request.query.get("reload"))))
            case "GET", "/models/sse":
                feed: deque[bytes | None] = deque()
                with self._changed:
                    self._feeds.append(feed)
                    self._changed.notify_all()
                return stream_reply(request, self._events(request, feed))
            case "GET", "/props" if not request.query.get("model"):
                props = json.loads(recorded("llamacpp_router", "GET", "/props").text)
                return json_reply(request, props | {"max_instances": self.models_max})
            case "GET", "/props" | "/slots" | "/metrics" | "/lora-adapters":
                return self._ask_child(request, self._ready(request, request.query.get("model", "")))
            case "POST", "/v1/chat/completions" | "/chat/completions":
                return self._chat(request)
            case "POST", "/models/load" | "/models/unload" | "/models":
                return self._manage(request)
            case "DELETE", "/models":
                return self._delete(request)
        return not_found(request)

    def _manage(self, request: Request) -> Reply:
        body = _body(request)
        name = str(body.get("model", ""))
        with self._changed:
            model = self._models.get(name)
            match request.path:
                case "/models/load" if model is None:
                    return not_found(request)  # the real one loses its own text for a 404
                case "/models/load" if model is not None and model.status in RUNNING:
                    return error(request, 400, "model is already running")
                case "/models/load" if model is not None:
                    self._load(model, request.line)
                case "/models/unload" if model is None:
                    return error(request, 400, "model is not found")
                case "/models/unload" if model is not None and model.status == "downloading":
                    self.finish_download(name, ok=False)
                case "/models/unload" if model is not None and model.status in RUNNING:
                    self._unload(model)
                case "/models/unload":
                    return error(request, 400, "model is not running")
                case _ if not name:
                    return error(request, 400, "model must be a non-empty string")
                case _ if model is not None:
                    return error(request, 400, f"model '{name}' already exists")
                case _:
                    self.start_download(name)
        return json_reply(request, {"success": True})

    def _delete(self, request: Request) -> Reply:
        name = request.query.get("model", "")
        model = self._models.get(name)
        if model is None:
            return error(request, 500, f"model name={name} is not found", "server_error")
        if model.source != "cache":
            text = f"model name={name} is not removable (not from cache)"
            return error(request, 500, text, "server_error")
        self.remove(name)
        return json_reply(request, {"success": True})

    def _chat(self, request: Request) -> Reply:
        body = _body(request)
        model = self._ready(request, str(body.get("model", "")))
        if model.status == "loading":
            return proxied_reply(request, loading(request).body, status=503)
        self._wake(model, request)
        self._use(model)
        model.asked = body
        if body.get("stream"):
            events = completion_events(model.name, body)
            return proxied_reply(request, events, content_type="text/event-stream")
        return proxied_reply(request, json_bytes(completion(model.name, body)))

    def _ask_child(self, request: Request, model: _Model) -> Reply:
        """Hand a GET on to the child of a model that runs, and wake it if the question is one that does."""
        if model.status == "loading":
            return proxied_reply(request, loading(request).body, status=503)
        if request.path == "/metrics":
            text = recorded("llamacpp", "GET", "/metrics").text
            return proxied_reply(request, text.encode(), content_type="text/plain; version=0.0.4")
        if request.path == "/props":
            props = json.loads(recorded("llamacpp_router", "GET", "/props?model=tiny-b").text)
            own = {"model_alias": model.name, "model_path": _path(model.name)}
            props |= own | {"is_sleeping": model.status == "sleeping"}
            return proxied_reply(request, json_bytes(props))
        self._wake(model, request)
        return proxied_reply(request, json_bytes([] if request.path == "/lora-adapters" else _slots(model)))

    def _ready(self, request: Request, name: str) -> _Model:
        """Find the model that a request is for and, unless it forbids that, load it and wait for it."""
        if not name:
            raise _Refused(error(request, 400, "model name is missing from the request"))
        with self._changed:
            model = self._models.get(name)
            if model is None:
                raise _Refused(error(request, 400, f"model '{name}' not found"))
            if request.query.get("autoload", "true") not in ("true", "1"):
                if model.status not in RUNNING:
                    raise _Refused(error(request, 400, "model is not loaded"))
                return model
            if model.status == "unloaded":
                self._load(model, request.line)
            self._changed.wait_for(lambda: self.closing.is_set() or model.status != "loading", PATIENCE)
            if model.status not in RUNNING:
                if model.exit_code:
                    text = f"model name={name} failed to load"
                    raise _Refused(error(request, 500, text, "server_error"))
                raise _Refused(error(request, 400, f"model name={name} is not running"))
            return model

    # How models come and go. Every method from here is called with the lock held.

    def _load(self, model: _Model, cause: str) -> None:
        """Start to load; a model that was used longest ago has to go first, even if this load fails."""
        running = [each for each in self._models.values() if each.status in RUNNING]
        if self.models_max and len(running) >= self.models_max:
            oldest = min(running, key=lambda each: each.used)
            self._unload(oldest)
            self._changed.wait_for(lambda: self.closing.is_set() or oldest.status == "unloaded", PATIENCE)
        if model.status != "unloaded":
            return  # somebody else began to load it in the meantime
        self.loads.append(Load(model.name, cause))
        model.status, model.exit_code, model.port = "loading", 0, self._take_port()
        model.stop, model.asked = threading.Event(), None
        self._use(model)
        self._tell("model_status", model.name, {"status": "loading"})
        stop, seconds = model.stop, self.load_seconds
        self.start(lambda: self._run(model, stop, seconds))

    def _run(self, model: _Model, stop: threading.Event, seconds: float) -> None:
        """Be the child while it loads. Takes the lock itself."""
        for n in range(STAGES):
            if stop.wait(seconds / STAGES):
                return
            with self._changed:
                if stop.is_set():
                    return
                progress = {"stages": ["text_model"], "current": "text_model", "value": n / (STAGES - 1)}
                self._tell("status_change", model.name, {"status": "loading", "progress": progress})
        with self._changed:
            if stop.is_set():
                return
            if (code := self._fail.pop(model.name, 0)) != 0:
                model.exit_code = code
                self._set(model, "unloaded")
            else:
                self._set(model, "loaded", {"info": _info(model)})

    def _unload(self, model: _Model) -> None:
        """Ask the child to exit: one that loads is killed at once, one that runs takes its time."""
        if model.stop.is_set():
            return
        killed = model.status == "loading"
        model.stop.set()
        if killed:
            self._set(model, "unloaded")
            return
        seconds = self.unload_seconds
        self.start(lambda: self._exit(model, seconds))

    def _exit(self, model: _Model, seconds: float) -> None:
        """Be the child while it exits. Takes the lock itself."""
        if not self.closing.wait(seconds):
            with self._changed:
                self._set(model, "unloaded")

    def _wake(self, model: _Model, request: Request) -> None:
        """Reload a sleeping model for a request that needs it. Takes the lock itself."""
        with self._changed:
            if model.status == "sleeping":
                self.loads.append(Load(model.name, request.line))
                self._changed.wait_for(self.closing.is_set, self.load_seconds)
                self._set(model, "loaded")

    def _set(self, model: _Model, status: Status, more: Json | None = None) -> None:
        model.status = status
        exited: Json = {"exit_code": model.exit_code} if status == "unloaded" else {}
        self._tell("status_change", model.name, {"status": status} | exited | (more or {}))

    def _tell(self, kind: str, model: str, data: Json | None) -> None:
        for feed in self._feeds:
            feed.append(event({"model": model, "event": kind, "data": data}))
        self._changed.notify_all()

    def _use(self, model: _Model) -> None:
        """Note that a model was used; a GET is no use of it, as in the real one."""
        self._uses += 1
        model.used = self._uses

    def _take_port(self) -> int:
        self._next_port += 1
        return self._next_port - 1

    # What it shows.

    def _events(self, request: Request, feed: deque[bytes | None]) -> Iterator[bytes]:
        """Everything that happens from now on; nothing of what is."""
        try:
            while not self.closing.is_set() and not request.gone():
                with self._changed:
                    self._changed.wait_for(lambda: feed or self.closing.is_set(), LOOK)
                while feed:
                    if (piece := feed.popleft()) is None:
                        return
                    yield piece
        finally:
            with self._changed:
                self._feeds = [each for each in self._feeds if each is not feed]
                self._changed.notify_all()

    def _list(self, *, reload: bool) -> Json:
        with self._changed:
            if reload or self._reload:
                self._read_models_again()
            data = [_entry(self._models[name]) for name in sorted(self._models)]
        return {"data": data, "object": "list"}

    def _read_models_again(self) -> None:
        """Settle what was downloaded, and forget failures, as the real one does."""
        self._reload = False
        for model in list(self._models.values()):
            if model.status == "downloaded" and model.exit_code:
                del self._models[model.name]
            elif model.status in ("downloaded", "unloaded"):
                model.status, model.exit_code = "unloaded", 0
        self._tell("models_reload", "*", None)


def _body(request: Request) -> Json:
    body = read_body(request)
    if isinstance(body, Reply):
        raise _Refused(body)
    return body


def _path(model: str) -> str:
    return f"models/{model}/{model}.gguf"


def _meta() -> Json:
    listed = json.loads(recorded("llamacpp_router", "GET", "/v1/models", 3).text)
    meta: Json = listed["data"][1]["meta"]
    return meta


def _info(model: _Model) -> Json:
    """What the event of a finished load tells of the model."""
    return {
        "id": model.name,
        "aliases": [model.name],
        "tags": [],
        "object": "model",
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "created": int(time.time()),
        "owned_by": "llamacpp",
        "meta": _meta(),
    }


def _entry(model: _Model) -> Json:
    """One line of the list, with the arguments and the settings of the recorded server."""
    server = ["/usr/local/bin/llama-server", "--host", "127.0.0.1", "--log-colors", "off", "--metrics"]
    own = ["--offline", "--port", str(model.port), "--no-warmup", "--alias", model.name, "--ctx-size", "512"]
    arguments = [*server, *own, "--model", _path(model.name), "--parallel", "1", "--threads", "1"]
    settings = ("log-colors = off", "metrics = 1", "offline = 1", "warmup = 0", "ctx-size = 512")
    lines = (
        f"[{model.name}]",
        *settings,
        f"model = {_path(model.name)}",
        "parallel = 1",
        "threads = 1",
        "",
        "",
    )
    failed = model.status == "unloaded" and model.exit_code != 0
    return {
        "id": model.name,
        "aliases": [],
        "tags": [],
        "object": "model",
        "owned_by": "llamacpp",
        "created": int(time.time()),
        "status": {"value": model.status, "args": arguments, "preset": "\n".join(lines)}
        | ({"exit_code": model.exit_code, "failed": True} if failed else {}),
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "source": model.source,
        "can_remove": model.source == "cache",
    } | ({"meta": _meta()} if model.status in ("loaded", "sleeping") else {})


def _slots(model: _Model) -> list[Json]:
    """The one slot: bare before the first task, with that task's settings after it."""
    slots: list[Json] = json.loads(recorded("llamacpp_router", "GET", "/slots?model=tiny-b").text)
    if model.asked is None:
        return [{key: slots[0][key] for key in ("id", "n_ctx", "speculative", "is_processing")}]
    limit = model.asked.get("max_tokens", -1)
    asked = {"max_tokens": limit, "n_predict": limit, "stream": bool(model.asked.get("stream"))}
    settings = slots[0]["params"]
    assert isinstance(settings, dict)
    return [slots[0] | {"params": settings | asked}]
