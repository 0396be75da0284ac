"""An Ollama server: models on disk, runners that a request loads, and a registry to pull from.

On the wire it is what ``transcripts/ollama.jsonl`` recorded, and beyond that what its source says. There
are no runners: a loaded model is a line in ``/api/ps``. A model and its LoRA variant share the weights and
with them the one runner, so that asking for one evicts the other.

``loads`` holds every load with what caused it, so that a test can say: nothing that was asked caused one.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from socket import socket
from typing import NamedTuple

from tests.servers.loopback import HttpLoopback, Reply, Request
from tests.servers.ollama_folder import MODEL, ModelsFolder, config_bytes, manifest_bytes, sha256
from tests.servers.ollama_replies import (
    EVENTS,
    OPENAI_JSON,
    TEXT,
    Json,
    empty_reply,
    error,
    event,
    generate,
    go_json,
    json_reply,
    keep_alive_seconds,
    line,
    may_ask,
    openai_error,
    openai_reply,
    reply,
    stamp,
    stream_reply,
    timings,
    tool_call,
)
from tests.servers.recordings import recorded

KEEP_ALIVE = 300.0
"""Seconds that a model stays loaded after a request."""
MEMORY = 2_118_122
"""Bytes of memory that a loaded model takes, unless a test says otherwise."""
CONTEXT = 512
"""Tokens that a loaded model has."""
PULL_STEPS = 4

ROUTES = {
    "/": ("GET", "HEAD"),
    "/api/version": ("GET", "HEAD"),
    "/api/status": ("GET",),
    "/api/tags": ("GET", "HEAD"),
    "/api/ps": ("GET",),
    "/api/show": ("POST",),
    "/api/generate": ("POST",),
    "/api/chat": ("POST",),
    "/api/embed": ("POST",),
    "/api/pull": ("POST",),
    "/api/create": ("POST",),
    "/api/delete": ("DELETE",),
    "/v1/models": ("GET",),
    "/v1/chat/completions": ("POST",),
}


class Load(NamedTuple):
    """A load of a model into memory."""

    model: str
    cause: str
    """``POST /api/chat``, or ``test``."""


@dataclass
class _Model:
    name: str
    size: int
    family: str = "llama"
    parameter_size: str = "138K"
    quantization: str = "F16"
    context_length: int | None = 2048
    embedding_length: int | None = 64
    capabilities: tuple[str, ...] | None = ("completion",)
    template: tuple[str, ...] = ()
    """What the template inside the model's file adds. The list does not know it (seen with 0.32)."""
    parent: str = ""
    remote: tuple[str, str] | None = None
    """Host and name, for a model that runs in the cloud."""
    old: bool = False
    """Whether the list leaves out what it did not have before version 0.30."""
    weights: str = ""
    """Models with the same weights share one runner."""
    modified: float = 0.0
    digest: str = ""


@dataclass
class _Runner:
    model: _Model
    size: int
    size_vram: int
    context_length: int
    expires: float
    alive: bool = True


@dataclass
class _Registry:
    """What can be pulled: the arguments of ``add``, or the words of an error."""

    models: dict[str, dict[str, object]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Ollama(HttpLoopback):
    """A server without models. ``clock`` may be set anytime, and so may ``version``."""

    def __init__(
        self,
        *,
        port: int = 0,
        version: str = "0.32.15",
        folder: Path | None = None,
        starting: bool = False,
        status: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(port=port)
        self.version = version
        self.clock = clock
        self.folder = ModelsFolder(folder) if folder is not None else None
        self.loads: list[Load] = []
        self._status = status
        self._models: dict[str, _Model] = {}
        self._runners: list[_Runner] = []
        self._blobs: set[str] = set()
        self._registry = _Registry()
        self._guard = threading.RLock()
        self._serving = threading.Event()
        if not starting:
            self._serving.set()

    # What a test does to it.

    def add(
        self,
        name: str,
        *,
        digest: str | None = None,
        size: int = 290_979,
        parameter_size: str = "138K",
        quantization: str = "F16",
        context_length: int | None = 2048,
        capabilities: tuple[str, ...] | None = ("completion",),
        template: tuple[str, ...] = (),
        parent: str = "",
        remote: tuple[str, str] | None = None,
        old: bool = False,
        modified: float | None = None,
    ) -> str:
        """Put a model on disk; return its digest, which is that of its manifest unless it is given."""
        with self._guard:
            name = _with_tag(name)
            base = self._models.get(_with_tag(parent).casefold()) if parent else None
            model = _Model(
                name=name,
                size=size,
                parameter_size=parameter_size,
                quantization=quantization,
                context_length=context_length,
                capabilities=capabilities,
                template=template,
                parent=_with_tag(parent) if parent else "",
                remote=remote,
                old=old,
                weights=base.weights if base is not None else name.casefold(),
                modified=self.clock() if modified is None else modified,
            )
            model.digest = digest or sha256(manifest_bytes(*_on_disk(model)))
            if self.folder is not None:
                self.folder.write(name, *_on_disk(model))
            self._models[name.casefold()] = model
            return model.digest

    def remove(self, name: str) -> None:
        """Take a model from disk; what runs of it runs on."""
        with self._guard:
            model = self._models.pop(_with_tag(name).casefold())
            if self.folder is not None:
                self.folder.remove(model.name)

    def load(
        self,
        name: str,
        *,
        size: int = MEMORY,
        size_vram: int = 0,
        context_length: int = CONTEXT,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        """Load a model as if somebody else had asked for it; ``size`` is memory here."""
        with self._guard:
            runner = self._run(self._models[_with_tag(name).casefold()], keep_alive, "test")
            runner.size, runner.size_vram, runner.context_length = size, size_vram, context_length

    def unload(self, name: str) -> None:
        with self._guard:
            self._unload(_with_tag(name))

    def kill_runner(self, name: str) -> None:
        """Kill the process behind a loaded model: it is listed on, and the next request loads it again."""
        with self._guard:
            runner = self._runner_of(_with_tag(name))
            assert runner is not None, f"{name} is not loaded"
            runner.alive = False

    def publish(self, name: str, **model: object) -> None:
        """Put a model into the registry; ``model`` are the arguments of ``add``."""
        self._registry.models[_with_tag(name)] = model

    def fail_pull(self, name: str, text: str) -> None:
        """Let a pull break off after its first progress, with this error."""
        self._registry.failures[_with_tag(name)] = text

    def finish_start(self) -> None:
        """Begin to answer what has been asked since it began to listen."""
        self._serving.set()

    # What it answers.

    def converse(self, connection: socket) -> None:
        self._serving.wait()
        if not self.closing.is_set():
            super().converse(connection)

    def closed(self) -> None:
        self._serving.set()

    def answer(self, request: Request) -> Reply:
        now = self.clock()
        if not may_ask(request.headers):
            return empty_reply(now, 403)
        if request.path.startswith("/api/blobs/"):
            return self._blob(request)
        methods = ROUTES.get(request.path, ()) if self._status or request.path != "/api/status" else ()
        if not methods:
            return reply(now, b"404 page not found", status=404, content_type=TEXT)
        if request.method not in methods:
            return reply(now, b"405 method not allowed", status=405, content_type=TEXT)
        try:
            with self._guard:
                return self._route(request, now)
        except _Refused as refused:
            fail = openai_error if request.path.startswith("/v1/") else error
            return fail(now, refused.status, refused.text)

    def _route(self, request: Request, now: float) -> Reply:
        match request.path:
            case "/":
                return reply(now, b"Ollama is running", content_type="text/plain; charset=utf-8")
            case "/api/version":
                return json_reply(now, {"version": self.version})
            case "/api/status":
                return json_reply(now, {"cloud": {"disabled": False, "source": "none"}})
            case "/api/tags":
                return json_reply(now, {"models": [_entry(model) for model in self._listed()]})
            case "/api/ps":
                running = sorted(self._runners, key=lambda each: -each.expires)
                return json_reply(now, {"models": [_process(each) for each in running]})
            case "/v1/models":
                data = [_openai_entry(model) for model in self._listed()]
                return openai_reply(now, {"object": "list", "data": data or None})
            case "/api/show":
                return self._show(request, now)
            case "/api/generate":
                return self._generate(request, now)
            case "/api/chat":
                return self._chat(request, now)
            case "/v1/chat/completions":
                return self._openai_chat(request, now)
            case "/api/embed":
                self._use(request, _body(request), asked="embed")
                return error(
                    now, 501, "This server does not support embeddings. Start it with `--embeddings`"
                )
            case "/api/pull":
                return self._pull(request, now)
            case "/api/create":
                return self._create(request, now)
        self.remove(self._named(_body(request)).name)
        return empty_reply(now)

    def _show(self, request: Request, now: float) -> Reply:
        body = _body(request)
        name = _with_tag(str(body.get("model") or body.get("name") or ""))
        model = self._models.get(name.casefold())
        if model is None:
            raise _Refused(404, f"model '{name}' not found")
        if model.remote is not None:
            raise _Refused(403, "ollama cloud is disabled: remote model details are unavailable")
        return json_reply(now, _shown(model))

    def _generate(self, request: Request, now: float) -> Reply:
        body = _body(request)
        model, name = self._named(body), str(body["model"])
        whole = {"model": name, "created_at": stamp(now), "response": "", "done": True}
        if not body.get("prompt"):
            if body.get("keep_alive") == 0:
                self._unload(model.name)
                return json_reply(now, whole | {"done_reason": "unload"})
            self._use(request, body)
            return json_reply(now, whole | {"done_reason": "load"})
        self._use(request, body)
        pieces, ended = generate(_option(body, "num_predict"))
        rest = {"done": True, "done_reason": ended, "context": [2, 435, 14]} | timings(len(pieces), 11)
        if body.get("stream") is False:
            text = "".join(pieces)
            return json_reply(now, {"model": name, "created_at": stamp(now), "response": text} | rest)
        told = [{"response": piece, "done": False} for piece in pieces] + [{"response": ""} | rest]
        head = {"model": name, "created_at": stamp(now)}
        return stream_reply(now, (line(head | each) for each in told))

    def _chat(self, request: Request, now: float) -> Reply:
        body = _body(request)
        name = str(self._named(body) and body["model"])
        call = self._use(request, body)
        pieces, ended = generate(_option(body, "num_predict"))
        rest: Json = {"done": True, "done_reason": "stop" if call else ended} | timings(len(pieces), 15)
        head: Json = {"model": name, "created_at": stamp(now)}
        called: Json | None = None
        if call is not None:
            function = {"index": 0, "name": call[0], "arguments": call[1]}
            called = _message("") | {"tool_calls": [{"id": "call_hive0001", "function": function}]}
        if body.get("stream") is False:
            return json_reply(now, head | {"message": called or _message("".join(pieces))} | rest)
        told = [called] if called else [_message(piece) for piece in pieces]
        lines = [head | {"message": each, "done": False} for each in told]
        return stream_reply(now, map(line, [*lines, head | {"message": _message("")} | rest]))

    def _openai_chat(self, request: Request, now: float) -> Reply:
        body = _body(request)
        name = str(self._named(body) and body["model"])
        call = self._use(request, body)
        pieces, ended = generate(body.get("max_tokens"))
        pieces, ended = ([], "tool_calls") if call else (pieces, ended)
        head: Json = {"id": "chatcmpl-565", "object": "chat.completion", "created": int(now), "model": name}
        head |= {"system_fingerprint": "fp_ollama"}
        usage = {"prompt_tokens": 15, "completion_tokens": len(pieces), "total_tokens": 15 + len(pieces)}
        calls: Json = {}
        if call is not None:
            function = {"name": call[0], "arguments": go_json(call[1]).decode()}
            calls = {
                "tool_calls": [{"id": "call_hive0001", "index": 0, "type": "function", "function": function}]
            }
        if not body.get("stream"):
            message = _message("".join(pieces)) | calls
            choice = {"index": 0, "message": message, "finish_reason": ended}
            return openai_reply(now, head | {"choices": [choice], "usage": usage})
        head |= {"object": "chat.completion.chunk"}
        first: Json = {"role": "assistant"}
        deltas: list[Json]
        deltas = [first | {"content": ""} | calls] if calls else [{"content": piece} for piece in pieces]
        deltas[0] = first | deltas[0]
        chunks: list[Json] = [_choice(each, None) for each in deltas]
        chunks.append(_choice({}, ended))
        options = body.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            chunks.append({"choices": [], "usage": usage})
        events = [*(event(head | each) for each in chunks), b"data: [DONE]\n\n"]
        return stream_reply(now, iter(events), EVENTS)

    def _pull(self, request: Request, now: float) -> Reply:
        body = _body(request)
        name = str(body.get("model") or body.get("name") or "")
        if not name:
            raise _Refused(400, "model is required")
        told = self._pulling(_with_tag(name), request)
        if body.get("stream") is False:
            last = list(told)[-1]
            return _only_the_end(now, last)
        return stream_reply(now, map(line, told))

    def _pulling(self, name: str, request: Request) -> Iterator[Json]:
        """Be a pull, line by line; an error in it comes with status 200, and who hangs up cancels it."""
        yield {"status": "pulling manifest"}
        model = self._registry.models.get(name)
        if model is None:
            yield {"error": "pull model manifest: file does not exist"}
            return
        total = model.get("size", 290_979)
        assert isinstance(total, int)
        digest = sha256(name.encode())
        progress: Json = {"status": f"pulling {digest[:12]}", "digest": f"sha256:{digest}", "total": total}
        yield progress
        for step in range(1, PULL_STEPS + 1):
            if request.gone():
                return
            yield progress | {"completed": total * step // PULL_STEPS}
            if (text := self._registry.failures.get(name)) is not None:
                yield {"error": text}
                return
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}
        self.add(name, **model)  # type: ignore[arg-type]
        yield {"status": "success"}

    def _create(self, request: Request, now: float) -> Reply:
        """Make a model of uploaded files or of another model: as it was recorded, for the recorded names."""
        body = _body(request)
        name = _with_tag(str(body.get("model") or ""))
        model = _recorded_model(name)
        base = body.get("from")
        if base is not None and _with_tag(str(base)).casefold() not in self._models:
            raise _Refused(500, "this server pulls nothing to create from")
        if base is None and not body.get("files"):
            raise _Refused(400, "neither 'from' or 'files' was specified")
        self.add(name, parent=str(base) if base is not None else "", **model)  # type: ignore[arg-type]
        if body.get("stream") is False:
            return _only_the_end(now, {"status": "success"})
        from_base = recorded("ollama", "POST", "/api/create", 1 if base is not None else 0)
        return stream_reply(now, iter(from_base.text.encode().splitlines(keepends=True)))

    def _blob(self, request: Request) -> Reply:
        """Take an upload, or tell whether it is there; what is in it is not compared with its name."""
        now, digest = self.clock(), request.path.rpartition("/")[2]
        known = digest in self._blobs
        if request.method == "POST":
            self._blobs.add(digest)
            return empty_reply(now, 200 if known else 201)
        if known:
            return empty_reply(now)
        length = recorded("ollama", "HEAD", f"/api/blobs/{digest}").headers["content-length"]
        return reply(now, b" " * int(length), status=404)

    # How models come and go. Every method from here is called with the lock held.

    def _named(self, body: Json) -> _Model:
        name = str(body.get("model") or body.get("name") or "")
        model = self._models.get(_with_tag(name).casefold())
        if model is None:
            raise _Refused(404, f"model '{name}' not found")
        return model

    def _use(self, request: Request, body: Json, *, asked: str = "chat") -> tuple[str, Json] | None:
        """Load a model if it is not, and keep it; return the call that it makes of a tool it was given."""
        model = self._named(body)
        call = tool_call(body.get("tools"))
        if call is not None and "tools" not in (*model.template, *(model.capabilities or ())):
            raise _Refused(400, f"registry.ollama.ai/library/{model.name} does not support tools")
        try:
            keep = keep_alive_seconds(body.get("keep_alive"), KEEP_ALIVE)
        except ValueError as wrong:
            raise _Refused(400, str(wrong)) from wrong
        if model.remote is None:
            self._run(model, keep, request.line)
        return call if asked == "chat" else None

    def _run(self, model: _Model, keep: float, cause: str) -> _Runner:
        runner = self._runner_of(model.name)
        if runner is None or not runner.alive:
            self._runners = [each for each in self._runners if each.model.weights != model.weights]
            self.loads.append(Load(model.name, cause))
            runner = _Runner(model, MEMORY, 0, CONTEXT, 0.0)
            self._runners.append(runner)
        runner.expires = self.clock() + keep
        return runner

    def _runner_of(self, name: str) -> _Runner | None:
        folded = name.casefold()
        return next((each for each in self._runners if each.model.name.casefold() == folded), None)

    def _unload(self, name: str) -> None:
        self._runners = [each for each in self._runners if each.model.name.casefold() != name.casefold()]

    def _listed(self) -> list[_Model]:
        """The newest first, by whole seconds; those of one second as they came."""
        return sorted(self._models.values(), key=lambda each: -int(each.modified))


def _with_tag(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _body(request: Request) -> Json:
    try:
        body = json.loads(request.body)
    except ValueError as wrong:
        raise _Refused(400, str(wrong)) from wrong
    if not isinstance(body, dict):
        raise _Refused(400, "json: cannot unmarshal value into Go value")
    return body


def _only_the_end(now: float, last: Json) -> Reply:
    """What is left of a stream that was not wanted; its type says nothing of a charset."""
    return reply(now, go_json(last), status=500 if "error" in last else 200, content_type=OPENAI_JSON)


def _option(body: Json, name: str) -> object:
    options = body.get("options")
    return options.get(name) if isinstance(options, dict) else None


def _message(content: str) -> Json:
    return {"role": "assistant", "content": content}


def _choice(delta: Json, ended: str | None) -> Json:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": ended}]}


def _on_disk(model: _Model) -> tuple[bytes, list[tuple[str, str, int]]]:
    """The config blob of a model, and its one layer: together they are as long as the model is."""
    config = config_bytes(
        family=model.family,
        parameter_size=model.parameter_size,
        quantization=model.quantization,
        context_length=None if model.old else model.context_length,
        capabilities=None if model.old else model.capabilities,
        remote=model.remote,
    )
    weights = sha256(f"{model.weights} {model.size}".encode())
    return config, [] if model.remote else [(MODEL, weights, max(0, model.size - len(config)))]


def _details(model: _Model) -> Json:
    return {
        "parent_model": model.parent,
        "format": "" if model.remote else "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameter_size,
        "quantization_level": model.quantization,
    }


def _entry(model: _Model) -> Json:
    told: Json = {"name": model.name, "model": model.name}
    if model.remote is not None:
        told |= {"remote_model": model.remote[1], "remote_host": model.remote[0]}
    details = _details(model)
    if not model.old:
        lengths = {"context_length": model.context_length, "embedding_length": model.embedding_length}
        details |= {name: value for name, value in lengths.items() if value is not None}
    told |= {
        "modified_at": stamp(model.modified),
        "size": model.size,
        "digest": model.digest,
        "details": details,
    }
    return (
        told if model.old or model.capabilities is None else told | {"capabilities": list(model.capabilities)}
    )


def _process(runner: _Runner) -> Json:
    return {
        "name": runner.model.name,
        "model": runner.model.name,
        "size": runner.size,
        "digest": runner.model.digest,
        "details": _details(runner.model) | {"parent_model": ""},
        "expires_at": stamp(runner.expires),
        "size_vram": runner.size_vram,
        "context_length": runner.context_length,
    }


def _openai_entry(model: _Model) -> Json:
    namespace = model.name.split("/")[-2] if "/" in model.name else "library"
    return {"id": model.name, "object": "model", "created": int(model.modified), "owned_by": namespace}


def _shown(model: _Model) -> Json:
    """What ``/api/show`` told of the recorded model, with this one's own facts."""
    call = recorded("ollama", "POST", "/api/show", 1 if model.name == "tiny-lora:latest" else 0)
    told: Json = json.loads(call.text)
    facts = told["model_info"]
    assert isinstance(facts, dict)
    told |= {
        "modelfile": str(told["modelfile"]).replace("# FROM tiny:latest", f"# FROM {model.name}"),
        "details": _details(model),
        "model_info": {
            key: model.context_length if key == "llama.context_length" else value
            for key, value in facts.items()
        },
        "capabilities": [*model.template, *(model.capabilities or ())],
        "modified_at": stamp(model.modified),
    }
    return told


@cache
def _recorded_model(name: str) -> dict[str, object]:
    """The digest and the size that a created model was recorded with; nothing for any other name."""
    listed = json.loads(recorded("ollama", "GET", "/api/tags", 1).text)["models"]
    return next(
        ({"digest": each["digest"], "size": each["size"]} for each in listed if each["name"] == name), {}
    )
