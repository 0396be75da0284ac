"""Servers that speak Ollama's dialect without being one, as far as a fingerprint can tell them apart.

Read in the source of each; none of them was recorded. A path that is not in the table is a 404.
"""

from __future__ import annotations

from tests.servers.loopback import HttpLoopback, Reply, Request, json_bytes

Table = dict[str, object]

_LIST = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "somebody"}]}
_TAGS = {"models": [{"name": "m:latest", "model": "m:latest", "size": 1, "digest": "0" * 64}]}
_DIALECT: Table = {"/v1/models": _LIST, "/api/tags": _TAGS, "/api/ps": {"models": []}}

EMULATORS: dict[str, Table] = {
    "LocalAI": _DIALECT
    | {
        "/": "Ollama is running",
        "/api/version": {"version": "0.9.0"},
        "/.well-known/localai.json": {"version": "v4.9.0", "endpoints": {}},
    },
    "Lemonade": _DIALECT
    | {
        "/": "Ollama is running",
        "/api/version": {"version": "0.16.1"},
        "/v1/health": {"status": "ok", "version": "11.7.0", "model_loaded": None, "all_models_loaded": []},
    },
    "Docker Model Runner": _DIALECT
    | {"/": "Docker Model Runner is running", "/api/version": {"version": "0.1.0"}},
    "llama-swap": _DIALECT
    | {"/": 302, "/api/version": {"version": "250", "commit": "abc", "build_date": "2026-10-01"}},
    "KoboldCpp": _DIALECT
    | {
        "/": "Ollama is running",
        "/api/version": {"version": "0.7.0"},
        "/api/extra/version": {"result": "KoboldCpp", "version": "1.99"},
    },
}


class Emulator(HttpLoopback):
    """One of ``EMULATORS``, or any other table of what is said at which path."""

    def __init__(self, name: str = "", *, table: Table | None = None, port: int = 0) -> None:
        super().__init__(port=port)
        self.table = dict(EMULATORS[name] if table is None else table)

    def answer(self, request: Request) -> Reply:
        value = self.table.get(request.path, 404)
        if isinstance(value, int):
            moved = (("Location", "/ui/"),) if 300 <= value < 400 else ()
            return Reply(status=value, headers=(*moved, ("Content-Length", "0")))
        body = value if isinstance(value, bytes) else _text(value)
        kind = "text/plain" if isinstance(value, str) else "application/json"
        return Reply(headers=(("Content-Type", kind), ("Content-Length", str(len(body)))), body=body)


def _text(value: object) -> bytes:
    return value.encode() if isinstance(value, str) else json_bytes(value)
