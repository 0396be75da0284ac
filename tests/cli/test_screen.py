"""The screen of ``hived status``: what it says, in which order, and that it fits."""

from __future__ import annotations

import time

import msgspec
import pytest

from hived.cli.columns import columns
from hived.cli.screen import screen, status_lines
from hived.cli.terminal import fitted, rows_of
from hived_client.doors.beat import Seen
from hived_client.doors.files import Known
from hived_client.doors.paths import Places
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.requests import Requests
from hived_client.vocabulary.world import Daemon, Model, ModelState, Verdict, World
from tests.client.worlds import endpoint

LONG = "mistralai/Mistral-Small-3.2-24B-Instruct-2506"


def loaded(name: str, state: ModelState = "loaded", **more: object) -> Model:
    facts: dict[str, object] = {
        "context": 131_072,
        "loaded_context": 16_384,
        "size": 2_000_000_000,
        "memory": 3_400_000_000,
        "offload": 0.44,
        "quantization": "Q4_K_M",
        "capabilities": ("completion", "tools"),
    }
    return Model(name=name, state=state, **(facts | more))  # type: ignore[arg-type]


def known(where: Places, *models: Model, verdict: Verdict = "fresh", age: float = 3.0) -> Known:
    daemon = Daemon(
        version="1", pid=7, started_at=time.time() - 90, managed_by="client", socket="", id="", boot=""
    )
    server = endpoint("gpu", "ollama", *models, url="http://127.0.0.1:11434")
    world = World(
        generation=5,
        daemon=daemon,
        endpoints=(server, endpoint("lab", "vllm", state="down")),
        problems=(fault("server.down", title="vLLM", url="http://127.0.0.1:8080", start="vllm serve"),),
    )
    seen = {"gpu": Seen(time.time() - age, 0.001, 15.0)}
    return Known(world=world, verdict=verdict, age=age, places=where, seen=seen)


def test_a_loaded_model_has_a_line_of_its_own_and_the_others_are_a_sum(where: Places) -> None:
    resting = [Model(name=f"m{n}", state="unloaded", size=10**9) for n in range(23)]
    rows = status_lines(known(where, loaded("qwen3:8b"), *resting), 0)
    (line,) = (row for row in rows if "qwen3:8b" in row)
    for fact in ("loaded", "16,384 of 131,072 tokens", "3.4 GB memory", "44% GPU", "tools", "Q4_K_M"):
        assert fact in line
    assert "  + 23 models not loaded (23.0 GB): m0, m1, m2, m3, m4, …" in rows
    everything = status_lines(known(where, loaded("qwen3:8b"), *resting), 0, everything=True)
    assert sum("unloaded" in row for row in everything) == 23


def test_what_goes_on_has_a_bar_and_an_estimate(where: Places) -> None:
    model = loaded("x", "downloading", progress=0.25, since=time.time() - 60)
    text = "\n".join(status_lines(known(where, model), 0))
    assert "25%" in text
    assert "about 3 min more" in text.replace(" 0 s", "")


def test_a_server_that_never_tells_of_states_has_its_models_listed(where: Places) -> None:
    text = "\n".join(status_lines(known(where, Model(name="a"), Model(name="b")), 0))
    assert "not loaded" not in text
    told = "\n".join(status_lines(known(where, loaded("a"), Model(name="cloudy", locality="internet")), 0))
    assert "+ 1 model not loaded: cloudy" in told


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal_and_all_columns_stand_under_each_other(
    where: Places, width: int
) -> None:
    models = (loaded(LONG), loaded("通义千问-模型:72b", loaded_context=8192), loaded("s", "sleeping"))
    rows = screen(known(where, *models), width).body
    assert [row for row in rows if columns(row) > width] == []
    listed = [row for row in rows if "loaded" in row or "sleeping" in row]
    assert len({columns(row[: row.index("l")]) for row in listed if row.strip().startswith("通")}) == 1
    ends = {columns(row[: max(row.find("  loaded"), row.find("  sleeping"))].rstrip()) for row in listed}
    starts = {columns(row[: max(row.find(" loaded"), row.find(" sleeping"))]) for row in listed}
    assert len(starts) == 1
    assert max(ends) <= starts.pop()


def test_at_80_columns_the_memory_and_the_place_are_still_there(where: Places) -> None:
    text = "\n".join(screen(known(where, loaded(LONG)), 80).body)
    assert "3.4 GB mem" in text
    assert "44% GPU" in text
    assert "mistralai" in text
    assert "2506" in text


def test_requests_are_shown_where_a_server_told_them_and_nothing_where_not(where: Places) -> None:
    now = known(where, loaded("a"))
    told = screen(now, 0, requests={"gpu": Requests(running=3, waiting=2)})
    assert any("3 running, 2 waiting" in row for row in told.body)
    idle = screen(now, 0, requests={"gpu": Requests(running=0, waiting=0)})
    assert any("0 running" in row and "waiting" not in row for row in idle.body)
    assert not any(" waiting" in row or "0 running" in row for row in screen(now, 0).body)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("lagging", "hived is late"), ("stale", "hived does not answer"), ("stopped", "hived does not run")],
)
def test_what_may_be_out_of_date_says_so_above_all_servers(
    where: Places, verdict: Verdict, words: str
) -> None:
    rows = status_lines(known(where, loaded("a"), verdict=verdict), 0)
    (at,) = (n for n, row in enumerate(rows) if words in row)
    assert at < next(n for n, row in enumerate(rows) if row.startswith("gpu"))
    state = next(row for row in rows if row.startswith("gpu"))
    assert ("was ready" in state) is (verdict == "stopped")
    assert not any("hived does" in row for row in status_lines(known(where, loaded("a")), 0))


def test_a_server_that_was_not_seen_for_long_says_so(where: Places) -> None:
    assert "seen 3 s ago" in "\n".join(status_lines(known(where), 0))
    assert "not seen for 5 min" in "\n".join(status_lines(known(where, age=300.0), 0))


def test_what_is_wrong_stands_last_and_keeps_a_third_of_a_small_screen(where: Places) -> None:
    full = known(where, *(loaded(f"model-{n}") for n in range(15)))
    rows = status_lines(full, 80)
    assert rows[-3:] == ["problems", "  vLLM is not running at http://127.0.0.1:8080.", "    → vllm serve"]
    world = msgspec.structs.replace(full.world, problems=full.world.problems * 6)
    crowded = screen(msgspec.structs.replace(full, world=world), 80)
    for width, height in ((80, 24), (80, 12), (40, 10), (200, 60), (20, 4)):
        shown = fitted(crowded.body, crowded.problems, "foot", width, height)
        assert sum(rows_of(line, width) for line in shown) <= height
        assert shown[-1] == "foot"
    small = fitted(crowded.body, crowded.problems, "foot", 80, 12)
    assert small[0].startswith("hived")
    assert "problems" in small
    assert sum("more lines" in line for line in small) == 2


def test_a_command_longer_than_the_screen_is_whole_and_counted_as_its_rows() -> None:
    command = "    → " + "x" * 150
    shown = fitted(["hived"], ["problems", command], "foot", 80, 24)
    assert command in shown
    assert sum(rows_of(line, 80) for line in shown) == 24
    assert rows_of("\x1b[31m" + "x" * 80 + "\x1b[0m", 80) == 1


def test_a_terminal_that_is_too_small_gets_one_line() -> None:
    for width, height in ((19, 24), (80, 3), (1, 1)):
        (line,) = fitted(["a"], ["b"], "foot", width, height)
        assert columns(line) <= width


def test_a_start_says_for_how_long_and_how_far_it_is(where: Places) -> None:
    reason = fault("server.starting", title="vLLM", url="http://127.0.0.1:8000", stage=": loading weights")
    lab = endpoint("lab", "vllm", url="http://127.0.0.1:8000", state="starting", reason=reason)
    lab = msgspec.structs.replace(lab, since=time.time() - 65)
    base = known(where)
    rows = status_lines(
        msgspec.structs.replace(base, world=msgspec.structs.replace(base.world, endpoints=(lab,))), 0
    )
    assert any("starting" in row and "for 1 min 5 s  loading weights" in row for row in rows), rows
