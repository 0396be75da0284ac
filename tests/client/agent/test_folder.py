"""Agent folders: what is read, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hived_client.agent.folder import AgentUnusable, read_agent
from tests.client.agent.folders import graph, worker, write


def refused(folder: Path) -> AgentUnusable:
    with pytest.raises(AgentUnusable) as no:
        read_agent(folder)
    return no.value


def test_a_workers_file_is_read_past_the_files_beside_it(tmp_path: Path) -> None:
    agent = read_agent(
        worker(
            tmp_path,
            goal={"description": "Greet", "success_criteria": ["friendly"], "constraints": ["brief"]},
            loop_config={"max_tokens": 500},
            identity_prompt="You are Bee.",
        )
    )
    assert agent.entry == "greeter"
    assert agent.node("greeter").system_prompt == "You greet."
    assert agent.goal.success_criteria == ("friendly",)
    assert (agent.max_tokens, agent.identity) == (500, "You are Bee.")


def test_an_empty_worker_is_one_as_in_hive(tmp_path: Path) -> None:
    assert read_agent(write(tmp_path, "x.json", {})).entry == "x"


def test_a_graph_is_read_with_its_goal_and_its_edges(tmp_path: Path) -> None:
    folder = graph(
        tmp_path,
        [{"id": "a", "output_keys": ["x"], "max_node_visits": 3}, {"id": "b", "input_keys": ["y"]}],
        [{"source": "a", "target": "b", "condition": "on_success", "input_mapping": {"y": "x"}}],
        terminal=["b"],
    )
    agent = read_agent(folder)
    edge = agent.after("a", success=True)
    assert edge is not None
    assert (edge.target, edge.input_mapping) == ("b", {"y": "x"})
    assert agent.after("a", success=False) is None
    assert agent.goal.success_criteria == ("there is a greeting",)


def test_what_follows_a_failure_is_another_edge(tmp_path: Path) -> None:
    edges = [
        {"source": "a", "target": "b", "condition": "on_success"},
        {"source": "a", "target": "c", "condition": "on_failure"},
        {"source": "b", "target": "c", "condition": "always"},
    ]
    agent = read_agent(graph(tmp_path, [{"id": "a"}, {"id": "b"}, {"id": "c"}], edges))
    assert [getattr(agent.after("a", success=each), "target", None) for each in (True, False)] == ["b", "c"]
    assert [getattr(agent.after("b", success=each), "target", None) for each in (True, False)] == ["c", "c"]


@pytest.mark.parametrize(
    ("nodes", "edges", "more", "named"),
    [
        ([{"id": "a", "node_type": "router"}], [], {}, "'a' of type 'router'"),
        ([{"id": "a", "routes": {"x": "y"}}], [], {}, "'a'"),
        ([{"id": "a", "client_facing": True}], [], {}, "talks with a person"),
        ([{"id": "a"}], [], {"pause_nodes": ["a"]}, "pauses"),
        (
            [{"id": "a"}, {"id": "b"}],
            [{"source": "a", "target": "b", "condition": "llm_decide"}],
            {},
            "llm_decide",
        ),
        (
            [{"id": "a"}, {"id": "b"}, {"id": "c"}],
            [
                {"source": "a", "target": "b", "condition": "always"},
                {"source": "a", "target": "c", "condition": "on_failure"},
            ],
            {},
            "several follow",
        ),
    ],
)
def test_what_does_not_run_here_is_refused_by_name(
    tmp_path: Path, nodes: list[Any], edges: list[Any], more: dict[str, Any], named: str
) -> None:
    no = refused(graph(tmp_path, nodes, edges, **more))
    assert no.code == "agent.needs_hive"
    assert named in no.message
    assert "hive" in no.hint


@pytest.mark.parametrize(
    ("nodes", "edges", "why"),
    [
        ([], [], "no nodes"),
        ([{"id": "a"}, {"id": "a"}], [], "same id"),
        ([{"id": "a"}], [{"source": "a", "target": "z"}], "not there"),
    ],
)
def test_a_graph_that_is_none_is_refused(
    tmp_path: Path, nodes: list[Any], edges: list[Any], why: str
) -> None:
    no = refused(graph(tmp_path, nodes, edges))
    assert no.code == "agent.unreadable"
    assert why in no.message


def test_an_agent_in_python_needs_hive(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text("raise RuntimeError('it must not be run')")
    assert refused(tmp_path).code == "agent.needs_hive"


def test_an_empty_folder_and_none_at_all(tmp_path: Path) -> None:
    assert refused(tmp_path).code == "agent.missing"
    no = refused(tmp_path / "no").fault
    assert (no.code, no.hint) == ("agent.missing", f"ls {tmp_path}")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"graph": {"nodes": 5}}', '{"graph": {"nodes": [{"id": 3}]}}']
)
def test_a_broken_file_is_said_with_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "agent.json").write_text(text)
    no = refused(tmp_path)
    assert no.code == "agent.unreadable"
    assert "agent.json" in no.message


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_bytes(b'\xef\xbb\xbf{"name": "w"}')
    assert read_agent(tmp_path).name == "w"


@pytest.mark.parametrize(
    ("said", "seconds"), [({}, 60.0), ({"x": 1}, 60.0), ("600", 60.0), (90, 90.0), (0.5, 0.5), (0, None)]
)
def test_how_long_a_tool_is_waited_for_is_read_as_hive_writes_it(
    tmp_path: Path, said: object, seconds: float | None
) -> None:
    loop = said if isinstance(said, dict) else {"tool_call_timeout_seconds": said}
    assert read_agent(worker(tmp_path / "w", loop_config=loop)).tool_seconds == seconds
    assert read_agent(graph(tmp_path / "g", [{"id": "a"}], loop_config=loop)).tool_seconds == seconds
