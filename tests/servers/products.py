"""What gives each product away: the few answers by which it is told from its imitators, and no more.

From their sources and documentation, not recorded. Each product is a table of paths; what is not in it is
answered as that product answers an unknown path. The imitations are here too: LocalAI, Lemonade, Docker
Model Runner and llama-swap answer as Ollama does, and several answer ``/version``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.servers.loopback import HttpLoopback, Reply, Request, json_bytes

JSON = "application/json"
PLAIN = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"

Told = tuple[int, str, bytes]
"""A status, a content type and a body."""


def told(value: object, status: int = 200) -> Told:
    return status, JSON, json_bytes(value)


def plain(text: str, status: int = 200, kind: str = PLAIN) -> Told:
    return status, kind, text.encode()


def listing(owner: str | None = None) -> Told:
    model = {"id": "m", "object": "model"} | ({} if owner is None else {"owned_by": owner})
    return told({"object": "list", "data": [model]})


NOT_FOUND = plain("404 page not found", 404)
FASTAPI_NOT_FOUND = told({"detail": "Not Found"}, 404)


@dataclass(frozen=True)
class Signature:
    """How one product answers."""

    answers: dict[str, Told]
    unknown: Told = NOT_FOUND
    headers: tuple[tuple[str, str], ...] = ()
    harmful: tuple[str, ...] = field(default=())
    """Paths whose GET does something, or all below one that ends in a slash: asking for one is a mistake."""


_OLLAMA = {"/": plain("Ollama is running"), "/api/tags": told({"models": []})}
_UVICORN = (("server", "uvicorn"),)

PRODUCTS: dict[str, Signature] = {
    "llama.cpp": Signature(
        {"/health": told({"status": "ok"}), "/v1/models": listing("llamacpp")},
        told({"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}, 404),
        (("Server", "llama.cpp"),),
        ("/slots", "/lora-adapters"),
    ),
    "LM Studio": Signature(
        {"/lmstudio-greeting": told({"lmstudio": True}), "/v1/models": listing("organization_owner")},
        told({"error": "Unexpected endpoint or method. (GET /x)"}),
    ),
    "KoboldCpp": Signature(
        {
            "/api/extra/version": told({"result": "KoboldCpp", "version": "1.99"}),
            "/api/tags": told({"models": []}),
            "/v1/models": listing("koboldcpp"),
        }
    ),
    "LocalAI": Signature(
        {
            **_OLLAMA,
            "/.well-known/localai.json": told({"version": "v4.9.0", "endpoints": {"models": "/v1/models"}}),
            "/api/version": told({"version": "0.9.0"}),
            "/version": told({"version": "v4.9.0"}),
            "/readyz": plain(""),
            "/v1/models": listing(),
        }
    ),
    "Lemonade": Signature(
        {
            **_OLLAMA,
            "/v1/health": told({"status": "ok", "model_loaded": None, "all_models_loaded": []}),
            "/api/version": told({"version": "0.16.1"}),
            "/v1/models": listing("lemonade"),
        }
    ),
    "Docker Model Runner": Signature(
        {
            "/": plain("Docker Model Runner is running"),
            "/api/version": told({"version": "0.1.0"}),
            "/version": told({"version": "1.2.6"}),
            "/v1/models": listing("docker"),
        }
    ),
    "llama-swap": Signature(
        {
            "/": plain("", 302),
            "/api/version": told({"version": "250", "commit": "abc", "build_date": "2026-10-01"}),
            "/v1/models": listing("llama-swap"),
            "/unload": plain("OK"),
        },
        harmful=("/unload", "/upstream/"),
    ),
    "Ollama": Signature(
        {**_OLLAMA, "/api/version": told({"version": "0.32.15"}), "/v1/models": listing("library")}
    ),
    "vLLM": Signature(
        {"/version": told({"version": "0.32.0"}), "/health": plain(""), "/v1/models": listing("vllm")},
        FASTAPI_NOT_FOUND,
        _UVICORN,
    ),
    "vLLM with a key": Signature(
        {
            "/version": told({"version": "0.32.0"}),
            "/v1/models": told({"error": "Unauthorized"}, 401),
            "/v1/health": told({"error": "Unauthorized"}, 401),
        },
        FASTAPI_NOT_FOUND,
        _UVICORN,
    ),
    "TGI": Signature(
        {
            "/info": told({"model_id": "m", "router": "text-generation-router", "version": "3.3.7"}),
            "/v1/models": listing(),
            "/health": plain(""),
        },
        plain("", 404),
    ),
    "SGLang": Signature(
        {
            "/get_model_info": told({"model_path": "m", "is_generation": True}),
            "/v1/models": listing("sglang"),
        },
        FASTAPI_NOT_FOUND,
        _UVICORN,
    ),
    "SGLang of late": Signature({"/model_info": told({"model_path": "m"})}, FASTAPI_NOT_FOUND, _UVICORN),
    "LiteLLM": Signature(
        {
            "/health/liveliness": told("I'm alive!"),
            "/": plain("<html>", kind=HTML),
            "/v1/models": listing("openai"),
        },
        FASTAPI_NOT_FOUND,
        _UVICORN,
        ("/health",),
    ),
    "LiteLLM with a key": Signature(
        {
            "/health/liveliness": told("I'm alive!"),
            "/": plain("", 307),
            "/v1/models": told({"error": {"message": "No api key passed in."}}, 401),
        },
        FASTAPI_NOT_FOUND,
        _UVICORN,
        ("/health",),
    ),
    "Jan": Signature(
        {"/openapi.json": told({"info": {"title": "Jan API Server Endpoints"}}), "/v1/models": listing()}
    ),
    "mlx_lm": Signature(
        {"/health": plain('{"status": "ok"}', kind=JSON), "/v1/models": listing()},
        plain("Not Found", 404),
        (("Server", "BaseHTTP/0.6 Python/3.12.4"),),
    ),
    "GPUStack": Signature(
        {
            "/version": told({"version": "2.2.3", "git_commit": "abc"}),
            "/healthz": told("ok"),
            "/v1/models": told({"detail": "Not authenticated"}, 401),
        },
        FASTAPI_NOT_FOUND,
        _UVICORN,
    ),
    "an OpenAI-compatible server": Signature({"/v1/models": listing("somebody")}),
    "a FastAPI application": Signature({"/docs": plain("<html>", kind=HTML)}, FASTAPI_NOT_FOUND, _UVICORN),
    "": Signature({"/": plain("<html>It works!", kind=HTML)}),
}
"""Every product by its name; a second form of one has more words after it."""


class Product(HttpLoopback):
    """One product's signature."""

    def __init__(self, name: str, *, port: int = 0) -> None:
        super().__init__(port=port)
        self.name = name
        self.signature = PRODUCTS[name]
        self.keys: list[str] = []
        """Keys and origins that were sent. Nobody may send one to a server that is not known yet."""

    @property
    def harm(self) -> list[str]:
        """What was asked for that does something."""
        harmful = self.signature.harmful
        below = tuple(path for path in harmful if path.endswith("/"))
        return [path for _, path in self.requests if path in harmful or (below and path.startswith(below))]

    def answer(self, request: Request) -> Reply:
        self.keys += [
            request.headers[name] for name in ("authorization", "origin") if name in request.headers
        ]
        known = self.signature.answers.get(request.path) if request.method == "GET" else None
        status, kind, body = known or self.signature.unknown
        length = ("Content-Length", str(len(body)))
        return Reply(
            status=status, headers=(*self.signature.headers, ("Content-Type", kind), length), body=body
        )
