"""Run every hostile server until killed: ``python -m tests.benchmarks.hostile_servers`` prints name → URL."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack

from tests.servers.llamacpp_replies import KEEP_ALIVE, identity, json_reply
from tests.servers.loopback import HttpLoopback, Loopback, Reply, Request, json_bytes
from tests.servers.strangers import (
    AnswersEverything,
    Crumbs,
    DeepJson,
    Dribble,
    GzipBomb,
    HugeBody,
    LyingLlamaCpp,
    Redirects,
)

MODELS = 10_000
ROUTER = b'{"role":"router","build_info":"b0-unknown"}'
FLOOD = b'data: {"model":"m0","event":"status_change","data":{"status":"loading"}}\n\n' * 500


class AnswersForAnother(HttpLoopback):
    """llama.cpp's headers, and at every path the answer to another."""

    def answer(self, request: Request) -> Reply:
        other = {"/health": [], "/props": {"data": []}, "/v1/models": {"status": "ok"}}
        return json_reply(request, json_bytes(other.get(request.path, {"id": request.path})))


class FloodsEvents(LyingLlamaCpp):
    """A router whose events never stop."""

    def __init__(self) -> None:
        super().__init__(props=ROUTER, models=json_bytes({"data": [{"id": "m0"}]}))

    def answer(self, request: Request) -> Reply:
        if request.path != "/models/sse":
            return super().answer(request)
        headers = (("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked"), KEEP_ALIVE)
        return Reply(headers=identity(request) + headers, body=iter(lambda: FLOOD, b""))


def many_models() -> LyingLlamaCpp:
    """A router with as many models as are read, every other one with a name for a terminal to obey."""
    names = [f"m{n}" if n % 2 else f"m{n}\x1b[2J\u202e\u200b" for n in range(MODELS)]
    data = [{"id": name, "status": {"value": "unloaded"}} for name in names]
    return LyingLlamaCpp(props=ROUTER, models=json_bytes({"data": data}))


def main() -> None:
    """Serve until killed, or until whoever started this is gone."""
    with ExitStack() as stack:
        target = stack.enter_context(AnswersEverything())
        servers: dict[str, Loopback] = {
            "endless": HugeBody(),
            "drip": Dribble(),
            "bomb": GzipBomb(),
            "many": many_models(),
            "redirects": Redirects(target.url),
            "not_utf8": LyingLlamaCpp("not_utf8"),
            "nan": LyingLlamaCpp("nan"),
            "deep": DeepJson(),
            "another": AnswersForAnother(),
            "flood": FloodsEvents(),
            "crumbs": Crumbs(),
        }
        print(json.dumps({n: stack.enter_context(server).url for n, server in servers.items()}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
