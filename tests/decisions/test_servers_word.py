"""What servers say of cards, beside what the machine says: never added, and a disagreement is told."""

from __future__ import annotations

import msgspec
import pytest

from hived.decisions.gpus import troubles
from hived.decisions.servers_word import known_hardware, with_servers
from hived.decisions.transitions import equip, problems
from hived.machine.hardware.understanding import understand
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.hardware import Gpu, GpuKind, GpuProcess, Hardware, Loaded
from hived_client.vocabulary.world import Locality, Model, State
from tests.client.worlds import endpoint, world
from tests.machine.hardware.machines import linux, nvml, nvml_card, plain

replace = msgspec.structs.replace
GIB = 1 << 30

NONE = understand(linux(plain()))
CARD = nvml_card(
    "NVIDIA GeForce RTX 3090", "00000000:01:00.0", 24576, 16000, compute=[8, 6], processes={"77": 8 * GIB}
)
ONE_CARD = understand(linux(plain(), {}, nvml(CARD)))


def on_graphics(offload: float | None = 1.0, memory: int | None = 8 * GIB, **more: object) -> Model:
    """A model that is loaded, as Ollama tells it."""
    return replace(Model(name="m", state="loaded", offload=offload, memory=memory), **more)


@pytest.mark.parametrize(
    ("model", "locality", "is_told"),
    [
        (Model(name="m", state="loaded", offload=0.0, device="cpu"), "device", True),
        (Model(name="m", state="loaded", device="cpu"), "device", True),
        (Model(name="m", state="loaded", offload=0.5), "device", False),
        (Model(name="m", state="loaded", offload=1.0), "device", False),
        (Model(name="m", state="loaded"), "device", False),
        (Model(name="m", state="unloaded", offload=0.0), "device", False),
        (Model(name="m", state="loaded", offload=0.0), "lan", False),
        (Model(name="m", state="loaded", offload=0.0, locality="internet"), "device", False),
    ],
)
def test_a_model_on_the_processor_is_told_of_where_a_card_here_could_have_it(
    model: Model, locality: Locality, is_told: bool
) -> None:
    one = world(endpoint("lab", "ollama", model, locality=locality))
    with_card = equip(one, ONE_CARD)
    found = [each for each in problems(with_card) if each.code == "model.on_cpu"]
    assert bool(found) == is_told
    if found:
        assert "'lab/m'" in found[0].message
        assert "NVIDIA GeForce RTX 3090" in found[0].message
        assert found[0].hint == "OLLAMA_HOST=127.0.0.1:8080 ollama ps"
    assert not [each for each in problems(equip(one, NONE)) if each.code == "model.on_cpu"]


def test_what_a_server_holds_is_said_model_by_model_and_the_cards_memory_stays_the_drivers() -> None:
    half = on_graphics(0.25, name="half")
    told = with_servers(ONE_CARD, [endpoint("ollama", "ollama", on_graphics(), half)])
    assert told.loaded == (
        Loaded(endpoint="ollama", model="m", graphics=8 * GIB, machine=0),
        Loaded(endpoint="ollama", model="half", graphics=2 * GIB, machine=6 * GIB),
    )
    assert (told.gpus, told.problems) == (ONE_CARD.gpus, ())
    (gpu,) = told.gpus or ()
    assert (gpu.free, gpu.processes) == (16000 << 20, (GpuProcess(pid=77, memory=8 * GIB),))


@pytest.mark.parametrize(
    ("model", "locality", "state"),
    [
        (on_graphics(None), "device", "ready"),
        (on_graphics(1.0, None), "device", "ready"),
        (on_graphics(state="unloaded"), "device", "ready"),
        (on_graphics(locality="internet"), "device", "ready"),
        (on_graphics(), "lan", "ready"),
        (on_graphics(), "device", "down"),
    ],
)
def test_what_no_server_here_tells_is_not_said(model: Model, locality: Locality, state: State) -> None:
    one = replace(endpoint("ollama", "ollama", model, locality=locality), state=state)
    assert with_servers(ONE_CARD, [one]).loaded == ()
    assert ONE_CARD.loaded is None  # and before a server was asked, not even that


@pytest.mark.parametrize(
    ("offload", "gpus", "said"),
    [(1.0, (), ["gpu.unseen"]), (0.1, (), ["gpu.unseen"]), (0.0, (), []), (1.0, None, [])],
)
def test_a_model_on_a_card_that_nobody_found_is_a_disagreement_and_said(
    offload: float, gpus: tuple[Gpu, ...] | None, said: list[str]
) -> None:
    one = equip(world(endpoint("ollama", "ollama", on_graphics(offload))), replace(NONE, gpus=gpus))
    found = [each for each in problems(one) if each.code.startswith("gpu.")]
    assert [each.code for each in found] == said
    assert all("'ollama/m'" in each.message for each in found)


DENIED = fault("gpu.permission", path="/dev/kfd", user="me")
DEAD = fault("gpu.driver", gpu="Radeon RX 7900 XTX", why="it took too long")


def radeon(problem: object = DENIED, kind: GpuKind | None = "discrete") -> Gpu:
    """A card that is said not to work."""
    return Gpu(
        name="Radeon RX 7900 XTX",
        vendor="amd",
        kind=kind,
        usable=False,
        fault=problem,  # type: ignore[arg-type]
        source="/sys/class/drm",
    )


OWN = Gpu(name="Radeon 610M", vendor="amd", kind="integrated", usable=False, source="/sys/class/drm")


def closed(*gpus: Gpu) -> Hardware:
    """A machine on which no card can be used."""
    return replace(NONE, gpus=gpus, problems=troubles(gpus))


@pytest.mark.parametrize(
    ("offload", "locality", "hardware", "said"),
    [
        (1.0, "device", closed(radeon()), []),
        (0.4, None, closed(radeon()), []),
        (0.0, "device", closed(radeon()), ["gpu.permission"]),
        (None, "device", closed(radeon()), ["gpu.permission"]),
        (1.0, "internet", closed(radeon()), ["gpu.permission"]),  # it runs elsewhere
        (1.0, "device", closed(radeon(DEAD)), []),
        (1.0, "device", closed(radeon(), radeon()), ["gpu.permission"]),  # which of the two, nobody knows
        (1.0, "device", closed(radeon(), OWN), []),  # no server uses the processor's own by itself
        (1.0, "device", closed(radeon(DEAD), OWN), ["gpu.driver"]),  # but it could
        (1.0, "device", closed(OWN), []),
    ],
)
def test_a_model_on_the_only_card_refutes_that_none_runs_there(
    offload: float | None, locality: Locality | None, hardware: Hardware, said: list[str]
) -> None:
    one = equip(world(endpoint("ollama", "ollama", on_graphics(offload, locality=locality))), hardware)
    assert [each.code for each in problems(one) if each.code.startswith("gpu.")] == said


def test_a_card_that_a_server_uses_is_one_that_models_run_on() -> None:
    one = equip(world(endpoint("ollama", "ollama", on_graphics())), closed(radeon(), OWN))
    told = known_hardware(one)
    assert told is not None
    assert told.runs_on == "ROCm"
    assert [(gpu.usable, gpu.fault, gpu.source) for gpu in told.gpus or ()] == [
        (True, None, "/sys/class/drm, ollama"),
        (False, None, "/sys/class/drm"),
    ]
    assert known_hardware(world()) is None


def test_a_model_on_the_processor_beside_a_card_that_only_a_server_reaches_is_told_of() -> None:
    slow = on_graphics(0.0, name="slow")
    one = equip(world(endpoint("ollama", "ollama", on_graphics(), slow)), closed(radeon()))
    assert [each.message for each in problems(one) if each.code == "model.on_cpu"] == [
        "'ollama/slow' runs on the CPU only, although this machine has Radeon RX 7900 XTX."
    ]
