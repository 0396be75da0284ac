"""Agent folders for tests, in the shapes that Hive writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def graph(
    folder: Path,
    nodes: Sequence[Mapping[str, Any]],
    edges: Sequence[Mapping[str, Any]] = (),
    *,
    terminal: Sequence[str] = (),
    **more: Any,
) -> Path:
    """Write an exported graph; the first node is the entry."""
    named = [{"name": node["id"].title(), "description": f"do {node['id']}", **node} for node in nodes]
    numbered = [{"id": f"e{number}", **edge} for number, edge in enumerate(edges)]
    document = {
        "graph": {
            "id": "g",
            "goal_id": "goal",
            "entry_node": named[0]["id"] if named else "",
            "terminal_nodes": list(terminal),
            "nodes": named,
            "edges": numbered,
            **more,
        },
        "goal": {
            "id": "goal",
            "name": "greet",
            "description": "Greet whoever asks",
            "success_criteria": [
                {"id": "sc", "description": "there is a greeting", "metric": "", "target": ""}
            ],
            "constraints": [{"id": "c", "description": "be brief"}],
        },
    }
    return write(folder, "agent.json", document)


def worker(folder: Path, **fields: Any) -> Path:
    """Write a worker's file, and the files that stand beside it in a colony."""
    write(folder, "metadata.json", {"name": "not a worker"})
    write(folder, "mcp_servers.json", {})
    return write(folder, "greeter.json", {"name": "greeter", "system_prompt": "You greet.", **fields})


def write(folder: Path, name: str, document: object) -> Path:
    """Write one JSON file into a folder; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(document))
    return folder
