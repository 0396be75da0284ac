"""The import table of the design, read from the code: imports point down, siblings stay apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
CLIENT = ROOT / "client"

# What each room may import of ours. The client's pure modules are everybody's vocabulary.
PURE = ("hived_client.vocabulary", "hived_client.resolution", "hived_client.errors")
ROOMS = {
    "hived_client.vocabulary": ("hived_client.vocabulary",),
    "hived_client": ("hived_client",),
    "hived.decisions": (*PURE, "hived.decisions"),
    "hived.providers": (*PURE, "hived_client.doors.regular", "hived.decisions", "hived.providers"),
    "hived.machine": (
        *PURE,
        "hived_client.doors.boot",
        "hived_client.doors.regular",
        "hived_client.doors.service",
        "hived_client.doors.whole",
        "hived.decisions",
        "hived.machine",
    ),
    "hived.configuration": (*PURE, "hived_client.doors.regular", "hived.decisions", "hived.configuration"),
    "hived.service": (
        *PURE,
        "hived_client.doors.regular",
        "hived_client.doors.service",
        "hived_client.doors.whole",
        "hived.service",
    ),
    "hived.daemon": (
        "hived_client",
        "hived.decisions",
        "hived.providers",
        "hived.machine",
        "hived.configuration",
        "hived.daemon",
    ),
    "hived.cli": ("hived_client", "hived"),
    "hived": ("hived.cli",),
}

# The one home of each library; anyio, msgspec and structlog are everywhere that their room allows.
HOMES = {
    "httpx": (
        "hived.providers.http",
        "hived.cli.demo.direct",
        "hived_client.agent.chat",
        "hived_client.agent.egress",
    ),
    "httpcore": ("hived.providers.http",),
    "psutil": ("hived.machine.processes",),
    "xllamacpp": ("hived.machine.embedded_llamacpp",),
    "pynvml": ("hived.machine.hardware.nvml_child",),
    "gguf": ("hived.cli.demo.speaking_model",),
    "numpy": ("hived.cli.demo.speaking_model",),
    "watchfiles": ("hived.providers.watching",),
    "shtab": ("hived.cli.completion",),
}
EVERYWHERE = ("anyio", "msgspec", "structlog")
NO_ANYIO = ("hived.decisions", "hived.configuration", "hived.service")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for base, package in ((ROOT, "hived"), (CLIENT, "hived_client")):
        for path in sorted((base / package).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, ast.parse(path.read_text("utf-8"))


def imports_of(name: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            # `from package import module` may name a module: both readings are checked.
            yield node.module or ""


def room_of(name: str) -> str:
    return max((room for room in ROOMS if name == room or name.startswith(f"{room}.")), key=len)


MODULES = list(modules())


def test_a_module_imports_only_what_its_room_may() -> None:
    for name, tree in MODULES:
        allowed = ROOMS[room_of(name)]
        for imported in imports_of(name, tree):
            if imported.split(".")[0] in ("hived", "hived_client"):
                within = any(imported == room or imported.startswith(f"{room}.") for room in allowed)
                assert within or imported == "hived_client._version", f"{name} imports {imported}"


def test_every_library_has_one_home() -> None:
    for name, tree in MODULES:
        for imported in imports_of(name, tree):
            library = imported.split(".")[0]
            if library in sys.stdlib_module_names or library in ("hived", "hived_client"):
                continue
            if name.startswith("hived_client.agent"):
                assert library in ("msgspec", "anyio") or name in HOMES.get(library, ()), imported
            elif name.startswith("hived_client"):
                assert library == "msgspec" or (library == "anyio" and name == "hived_client.doors.aio"), (
                    imported
                )
            elif library in EVERYWHERE:
                assert library == "msgspec" or not name.startswith(NO_ANYIO), f"{name} imports {imported}"
            else:
                assert name in HOMES.get(library, ()), f"{name} imports {imported}"


def test_the_agent_side_imports_a_library_only_where_it_is_used() -> None:
    """Whoever imports an agent's module pays for msgspec alone, until something is called."""
    for name, tree in MODULES:
        if not name.startswith("hived_client.agent"):
            continue
        guards = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.If) for inner in node.body}
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in guards:
                for imported in imports_of(name, ast.Module(body=[node], type_ignores=[])):
                    library = imported.split(".")[0]
                    ours = library in ("hived_client", "msgspec") or library in sys.stdlib_module_names
                    assert ours, f"{name} imports {imported} at once"


def test_the_table_of_homes_names_only_modules_that_use_them() -> None:
    used = {(library.split(".")[0], name) for name, tree in MODULES for library in imports_of(name, tree)}
    for library, homes in HOMES.items():
        assert {home for home in homes if (library, home) not in used} == set(), library


def test_the_daemon_never_imports_litellm() -> None:
    code = "import sys, hived.daemon.app; print('litellm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
