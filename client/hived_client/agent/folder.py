"""Agent folders as Hive writes them, read into what can be run here; what cannot is refused by name.

Two shapes: a worker file (``NAME.json`` with a ``system_prompt``, as Hive's colonies have them) and an
exported graph (``agent.json`` with ``graph`` and ``goal``). Of graphs only chains run here: after each node
at most one edge may follow a success and at most one a failure.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec

from hived_client.errors import HivedError
from hived_client.vocabulary.faults import fault

Condition = Literal["always", "on_success", "on_failure"]

_CONDITIONS = ("always", "on_success", "on_failure")
_NOT_WORKERS = frozenset({"agent", "flowchart", "triggers", "configuration", "metadata", "mcp_servers"})
"""Stems of JSON files beside a worker's that are something else."""
TOOL = 60.0
"""Seconds for one call of a tool, where the agent's file does not say: as at Hive's newer commits."""
MOST_BYTES = 16 * 1024 * 1024
"""Bytes that an agent's file may have."""


class AgentUnusable(HivedError):
    """The folder holds no agent, or one that cannot be run here."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One step: a conversation with a model that ends when its outputs are there."""

    id: str
    name: str = ""
    description: str = ""
    node_type: str = "event_loop"
    input_keys: tuple[str, ...] = ()
    output_keys: tuple[str, ...] = ()
    nullable_output_keys: tuple[str, ...] = ()
    system_prompt: str | None = None
    tools: tuple[str, ...] = ()
    model: str | None = None
    routes: dict[str, str] = {}
    client_facing: bool = False
    success_criteria: str | None = None

    @property
    def required(self) -> tuple[str, ...]:
        """The outputs without which the step has failed."""
        return tuple(key for key in self.output_keys if key not in self.nullable_output_keys)


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """What follows a node, and what of its outputs goes there under another name."""

    source: str
    target: str
    condition: str = "on_success"
    input_mapping: dict[str, str] = {}
    """Name in the target → name in the source."""

    def follows(self, *, success: bool) -> bool:
        """Tell whether this edge is taken after its source has ended so."""
        return self.condition == "always" or (self.condition == "on_success") is success


class _Named(msgspec.Struct, frozen=True):
    description: str = ""


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is for."""

    name: str = ""
    description: str = ""
    success_criteria: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that can be run here."""

    name: str
    folder: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()
    entry: str
    terminal: tuple[str, ...] = ()
    goal: Goal = Goal()
    identity: str = ""
    max_tokens: int | None = None
    max_steps: int = 100
    max_iterations: int = 30
    """Turns with the model in one node."""
    tool_seconds: float | None = TOOL
    """Seconds for which a tool is waited for; ``None``: for as long as it takes."""

    def node(self, identity: str) -> Node:
        """Return a node by its id."""
        return next(node for node in self.nodes if node.id == identity)

    def after(self, identity: str, *, success: bool) -> Edge | None:
        """Return the edge that is taken after a node, if one is."""
        mine = (edge for edge in self.edges if edge.source == identity)
        return next((edge for edge in mine if edge.follows(success=success)), None)


def read_agent(folder: str | os.PathLike[str]) -> Agent:
    """Read an agent's folder. Raises ``AgentUnusable``."""
    path = os.fspath(folder)
    try:
        names = sorted(os.listdir(path))
    except FileNotFoundError as error:
        there = os.path.dirname(path) or "."
        raise AgentUnusable(fault("agent.missing", path=path, folder=there)) from error
    except OSError as error:
        why = error.strerror or "it cannot be read"
        raise AgentUnusable(fault("agent.unreadable", path=path, why=why)) from error
    if "agent.json" in names and isinstance(_document(path, "agent.json").get("graph"), dict):
        return _graph(path, _document(path, "agent.json"))
    workers = [n for n in names if n.endswith(".json") and n.removesuffix(".json") not in _NOT_WORKERS]
    if workers:
        return _worker(path, workers[0])
    if "agent.py" in names:
        raise _needs_hive(path, "an agent that is written in Python (agent.py)")
    raise AgentUnusable(fault("agent.missing", path=path))


def _worker(folder: str, file: str) -> Agent:
    document = _document(folder, file)
    name = _text(document.get("name")) or file.removesuffix(".json")
    goal = document.get("goal")
    goal = goal if isinstance(goal, dict) else {}
    loop = document.get("loop_config")
    loop = loop if isinstance(loop, dict) else {}
    node = Node(
        id=name,
        name=name.replace("_", " ").title(),
        description=_text(document.get("description")),
        system_prompt=_text(document.get("system_prompt")),
        tools=_texts(document.get("tools")),
    )
    return Agent(
        name=name,
        folder=folder,
        nodes=(node,),
        entry=name,
        terminal=(name,),
        goal=Goal(
            name=_text(goal.get("description")) or name,
            description=_text(goal.get("description")),
            success_criteria=_texts(goal.get("success_criteria")),
            constraints=_texts(goal.get("constraints")),
        ),
        identity=_text(document.get("identity_prompt")),
        max_tokens=_number(loop.get("max_tokens")),
        max_iterations=_number(loop.get("max_iterations")) or 30,
        tool_seconds=_tool_seconds(loop),
    )


def _graph(folder: str, document: Mapping[str, Any]) -> Agent:
    graph = cast("dict[str, Any]", document["graph"])
    path = os.path.join(folder, "agent.json")
    try:
        nodes = msgspec.convert(graph.get("nodes", []), tuple[Node, ...], strict=False)
        edges = msgspec.convert(graph.get("edges", []), tuple[Edge, ...], strict=False)
        goal = _goal(document.get("goal"))
    except msgspec.ValidationError as error:
        raise AgentUnusable(
            fault("agent.unreadable", path=path, why=f"its graph is wrong: {error}")
        ) from error
    loop = graph.get("loop_config")
    loop = loop if isinstance(loop, dict) else {}
    agent = Agent(
        name=os.path.basename(os.path.abspath(folder)),
        folder=folder,
        nodes=nodes,
        edges=edges,
        entry=_text(graph.get("entry_node")) or (nodes[0].id if nodes else ""),
        terminal=_texts(graph.get("terminal_nodes")),
        goal=goal,
        identity=_text(graph.get("identity_prompt")),
        max_tokens=_number(graph.get("max_tokens")),
        max_steps=_number(graph.get("max_steps")) or 100,
        max_iterations=_number(loop.get("max_iterations")) or 30,
        tool_seconds=_tool_seconds(loop),
    )
    _check(agent, path, graph)
    return agent


def _goal(section: object) -> Goal:
    if not isinstance(section, dict):
        return Goal()
    return Goal(
        name=_text(section.get("name")),
        description=_text(section.get("description")),
        success_criteria=tuple(
            each.description for each in msgspec.convert(section.get("success_criteria", []), list[_Named])
        ),
        constraints=tuple(
            each.description for each in msgspec.convert(section.get("constraints", []), list[_Named])
        ),
    )


def _check(agent: Agent, path: str, graph: Mapping[str, Any]) -> None:
    """Refuse by name what does not run here, before anything has run."""
    known = [node.id for node in agent.nodes]
    broken = ""
    if not known:
        broken = "its graph has no nodes"
    elif len(set(known)) != len(known):
        broken = "two of its nodes have the same id"
    elif agent.entry not in known:
        broken = f"its entry node {agent.entry!r} is none of its nodes"
    for edge in agent.edges:
        if edge.source not in known or edge.target not in known:
            broken = (
                broken
                or f"an edge goes from {edge.source!r} to {edge.target!r}, and one of them is not there"
            )
    if broken:
        raise AgentUnusable(fault("agent.unreadable", path=path, why=broken))
    if graph.get("pause_nodes"):
        raise _needs_hive(path, "a graph that pauses")
    for node in agent.nodes:
        if node.node_type != "event_loop" or node.routes:
            raise _needs_hive(path, f"the node {node.id!r} of type {node.node_type!r}")
        if node.client_facing:
            raise _needs_hive(path, f"the node {node.id!r}, which talks with a person,")
    for edge in agent.edges:
        if edge.condition not in _CONDITIONS:
            raise _needs_hive(path, f"the edge from {edge.source!r} to {edge.target!r} ({edge.condition})")
    for node in agent.nodes:
        for success in (True, False):
            following = [e for e in agent.edges if e.source == node.id and e.follows(success=success)]
            if len(following) > 1:
                raise _needs_hive(path, f"the node {node.id!r}, after which several follow,")


def _needs_hive(path: str, what: str) -> AgentUnusable:
    return AgentUnusable(fault("agent.needs_hive", path=path, what=what))


def _document(folder: str, file: str) -> dict[str, Any]:
    path = os.path.join(folder, file)
    try:
        with open(path, "rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
        document = msgspec.json.decode(raw.removeprefix(b"\xef\xbb\xbf")) if len(raw) <= MOST_BYTES else None
    except OSError as error:
        why = error.strerror or "it cannot be read"
        raise AgentUnusable(fault("agent.unreadable", path=path, why=why)) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise AgentUnusable(fault("agent.unreadable", path=path, why=str(error))) from error
    if not isinstance(document, dict):
        raise AgentUnusable(fault("agent.unreadable", path=path, why="it is not an object"))
    return document


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _tool_seconds(loop: Mapping[str, Any]) -> float | None:
    """Return how long a tool is waited for; Hive writes 0 for no limit."""
    said = loop.get("tool_call_timeout_seconds")
    if not isinstance(said, (int, float)) or isinstance(said, bool):
        return TOOL
    return float(said) if said > 0 else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
