"""The machine is looked at once, then only while somebody watches; what hangs is put off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec
import pytest

from hived.daemon.hardware import FILE, FILE_PATIENCE, UNMEASURED, HardwareWatch
from hived.daemon.store import Store
from hived.decisions.hardware import FIRST_RETRY, LOADING, WATCHED, WATCHING
from hived.machine.hardware.understanding import Captured, Reply
from hived_client.vocabulary.hardware import Asked, Bandwidth, Hardware
from hived_client.vocabulary.world import Endpoint, Model
from tests.client.worlds import endpoint, world
from tests.daemon.virtual_time import Backend, VirtualClock, virtual
from tests.machine.hardware.machines import RADEON_7900, linux, meminfo, nvml, nvml_card, plain

pytestmark = pytest.mark.anyio

T = TypeVar("T")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    return virtual(request.param)


CARD = nvml_card("NVIDIA GeForce RTX 3090", "00000000:01:00.0", 24576, 24000, compute=[8, 6])
LATE = Reply(state="late", why="it took longer than 5.0 s")


class AtOnce:
    """No thread: virtual time does not see one."""

    def __init__(self, takes: float = 0.0) -> None:
        self.takes = takes
        self.runs = 0

    async def run(self, act: Callable[[], T]) -> T:
        self.runs += 1
        await anyio.sleep(self.takes)
        return act()


class Told:
    """A machine that says what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.available = 50.0
        self.system: dict[str, str] | None = None
        self.cards: dict[str, str] = {}
        self.replies = nvml(CARD)
        self.asked: list[str] = []
        self.skipped: list[frozenset[str]] = []
        self.marked = "boot"
        self.speed: Bandwidth | None = Bandwidth(low=2e10, high=2e10, source="measured")
        self.given_up = 0

    def _now(self) -> Captured:
        files = plain() | {"proc/meminfo": meminfo(62.7, self.available)}
        return linux(files if self.system is None else self.system, self.cards, dict(self.replies))

    def everything(self, skip: frozenset[str]) -> Captured:
        self.asked.append("everything")
        self.skipped.append(skip)
        return self._now()

    def what_moves(self, before: Captured, skip: frozenset[str]) -> Captured:
        self.asked.append("what moves")
        self.skipped.append(skip)
        return self._now()

    def mark(self) -> str:
        return self.marked

    def measure(self, hardware: Hardware | None) -> Bandwidth | None:
        self.asked.append("measure")
        return self.speed

    def give_up(self) -> None:
        self.given_up += 1


class Watched:
    """A watch that runs."""

    def __init__(self, path: Path, machine: Told, takes: float = 0.0, *endpoints: Endpoint) -> None:
        self.machine = machine
        self.disk = AtOnce()
        self.store = Store(world(*endpoints), VirtualClock())
        self.watch = HardwareWatch(
            self.store,
            {},
            VirtualClock(),
            path=str(path / "hardware"),
            machine=machine,
            aside=AtOnce(takes),
            disk=self.disk,
        )

    async def while_running(self, act: Callable[[], Awaitable[None]]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.watch.run)
            await anyio.sleep(0.001)
            await act()
            tasks.cancel_scope.cancel()


async def test_it_is_looked_at_once_and_never_again_while_nobody_watches(tmp_path: Path) -> None:
    one = Watched(tmp_path, Told())

    async def act() -> None:
        assert one.store.world.hardware is not None
        assert one.store.world.hardware.runs_on == "CUDA"
        await anyio.sleep(24 * 3600)
        assert one.machine.asked == ["everything"]

    await one.while_running(act)


async def test_while_somebody_watches_what_moves_is_looked_at_now_and_then(tmp_path: Path) -> None:
    one = Watched(tmp_path, Told())

    async def act() -> None:
        for _ in range(int(3 * WATCHED / (WATCHING / 2)) + 1):
            one.watch.watched()
            await anyio.sleep(WATCHING / 2)
        looks = one.machine.asked.count("what moves")
        assert 2 <= looks <= 5
        await anyio.sleep(3600)
        assert one.machine.asked.count("what moves") <= looks + 1

    await one.while_running(act)


async def test_it_is_looked_at_more_often_while_a_model_loads(tmp_path: Path) -> None:
    loading = endpoint("a", "ollama", Model(name="m", state="loading"))
    one = Watched(tmp_path, Told(), 0.0, loading)

    async def act() -> None:
        one.watch.watched()
        await anyio.sleep(WATCHING)
        assert one.machine.asked.count("what moves") >= WATCHING / LOADING - 2

    await one.while_running(act)


async def test_a_load_that_begins_between_two_looks_is_not_waited_for(tmp_path: Path) -> None:
    one = Watched(tmp_path, Told())

    async def act() -> None:
        one.watch.watched()
        await anyio.sleep(2.0)
        looks = one.machine.asked.count("what moves")
        loading = endpoint("a", "ollama", Model(name="m", state="loading"))
        one.store.update(lambda old: world(loading, generation=old.generation + 1))
        await anyio.sleep(3.5 * LOADING)
        assert one.machine.asked.count("what moves") >= looks + 3

    await one.while_running(act)


async def test_memory_that_moves_by_a_little_is_no_news_and_whoever_asks_is_told_it(tmp_path: Path) -> None:
    one = Watched(tmp_path, Told())

    async def act() -> None:
        before = one.store.world.generation
        one.machine.available = 49.5
        await anyio.sleep(2.0)
        told = await one.watch.read(Asked())
        assert told.memory.available == int(49.5 * 2**20) * 1024
        assert one.store.world.generation == before
        one.machine.available = 20.0
        await anyio.sleep(2.0)
        await one.watch.read(Asked())
        assert one.store.world.generation == before + 1
        assert one.store.world.hardware is not None
        assert one.store.world.hardware.memory.available == 20 * 2**30

    await one.while_running(act)


async def test_those_who_ask_at_once_share_one_look(tmp_path: Path) -> None:
    one = Watched(tmp_path, Told(), 0.5)

    async def act() -> None:
        await anyio.sleep(5.0)
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one.watch.read, Asked())
        assert one.machine.asked.count("what moves") <= 2  # the watch itself may have begun one

    await one.while_running(act)


async def test_what_does_not_answer_is_put_off_ever_longer_and_then_asked_again(tmp_path: Path) -> None:
    machine = Told()
    good, machine.replies = machine.replies, {"nvml": LATE}
    one = Watched(tmp_path, machine)

    async def act() -> None:
        hardware = one.store.world.hardware
        assert hardware is not None
        assert hardware.runs_on is None  # nobody could tell
        assert [(each.name, each.state, each.failures) for each in hardware.probes if each.state != "ok"] == [
            ("nvml", "late", 1)
        ]
        await anyio.sleep(2.0)
        await one.watch.read(Asked())
        assert machine.skipped[-1] == frozenset({"nvidia"})
        asked = machine.asked.count("everything")
        await anyio.sleep(FIRST_RETRY)
        assert machine.asked.count("everything") == asked + 1
        assert machine.skipped[-1] == frozenset()
        await anyio.sleep(24 * 3600)
        assert machine.asked.count("everything") < 40
        machine.replies = good
        await anyio.sleep(2 * 3600)
        assert one.store.world.hardware is not None
        assert one.store.world.hardware.runs_on == "CUDA"
        assert one.watch.statistics()["failures"] == {}

    await one.while_running(act)


async def test_what_is_due_and_cannot_be_asked_now_is_put_off_like_what_does_not_answer(
    tmp_path: Path,
) -> None:
    machine = Told()
    machine.replies |= {"llama-server": LATE}
    one = Watched(tmp_path, machine, 1.0)

    async def act() -> None:
        await anyio.sleep(5.0)
        assert one.watch.statistics()["failures"] == {"llama-server": 1}
        del machine.replies["llama-server"]  # a card sleeps, and llama-server would wake it
        await anyio.sleep(24 * 3600)
        assert 5 < one.watch.looks < 40

    await one.while_running(act)


async def test_whoever_asks_when_a_probe_is_due_has_it_asked(tmp_path: Path) -> None:
    machine = Told()
    machine.replies |= {"llama-server": LATE}
    one = Watched(tmp_path, machine)
    await one.watch.read(Asked())
    await anyio.sleep(FIRST_RETRY)
    await one.watch.read(Asked())
    assert machine.asked == ["everything", "everything"]


async def test_files_that_cannot_be_read_now_are_as_they_were(tmp_path: Path) -> None:
    machine = Told()
    one = Watched(tmp_path, machine)
    machine.system = plain() | {"proc/meminfo": meminfo(62.7, 50.0)}
    machine.cards = RADEON_7900
    before = await one.watch.read(Asked())
    machine.system, machine.cards = {}, {}
    machine.replies |= {"system": LATE, "cards": LATE}
    after = await one.watch.read(Asked(again=True))
    assert (after.cpu, after.memory.total) == (before.cpu, before.memory.total)
    assert [gpu.name for gpu in after.gpus or ()] == [gpu.name for gpu in before.gpus or ()]


async def test_what_is_kept_of_this_boot_is_not_asked_again_and_of_another_boot_it_is(tmp_path: Path) -> None:
    first = Watched(tmp_path, Told())

    async def nothing() -> None:
        return

    await first.while_running(nothing)
    again = Watched(tmp_path, Told())

    async def act() -> None:
        assert again.store.world.hardware is not None
        assert again.machine.asked == ["what moves"]

    await again.while_running(act)
    other = Watched(tmp_path, Told())
    other.machine.marked = "another boot"

    async def asked() -> None:
        assert other.machine.asked == ["everything"]

    await other.while_running(asked)


async def test_a_file_that_makes_no_sense_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "hardware").write_bytes(b"\x93nonsense")
    one = Watched(tmp_path, Told())

    async def act() -> None:
        assert one.machine.asked == ["everything"]

    await one.while_running(act)


async def test_a_look_during_which_something_hung_is_not_kept(tmp_path: Path) -> None:
    machine = Told()
    machine.replies = {"nvml": LATE}
    one = Watched(tmp_path, machine)

    async def act() -> None:
        assert not (tmp_path / "hardware").exists()

    await one.while_running(act)


@pytest.mark.parametrize("replies", [nvml(CARD), {"nvml": LATE}])
async def test_a_disk_that_hangs_keeps_nobody_waiting_and_is_tried_again_ever_later(
    tmp_path: Path, replies: dict[str, Reply]
) -> None:
    machine = Told()
    machine.replies = replies
    one = Watched(tmp_path, machine)
    one.disk.takes = float("inf")

    async def act() -> None:
        await anyio.sleep(3 * FILE_PATIENCE)
        hardware = one.store.world.hardware
        assert hardware is not None
        late = [each for each in hardware.probes if each.name == FILE]
        assert [(each.state, each.failures) for each in late] == [("late", 1)]
        begun = anyio.current_time()
        await one.watch.read(Asked())
        assert anyio.current_time() == begun
        await anyio.sleep(24 * 3600)
        assert 5 < one.disk.runs < 40
        looks = machine.asked.count("what moves")
        one.disk.takes = 0.0
        await anyio.sleep(2 * 3600)
        assert one.store.world.hardware is not None
        assert not [each for each in one.store.world.hardware.probes if each.name == FILE]
        assert (tmp_path / "hardware").exists() == (replies != {"nvml": LATE})
        assert machine.asked.count("what moves") == looks  # nobody watches

    await one.while_running(act)


async def test_bandwidth_is_measured_at_first_need_and_once_a_boot(tmp_path: Path) -> None:
    one = Watched(tmp_path, Told())

    async def act() -> None:
        assert (await one.watch.read(Asked())).memory.bandwidth is None
        first = await one.watch.read(Asked(bandwidth=True))
        assert first.memory.bandwidth is not None
        assert (first.memory.bandwidth.low, first.memory.bandwidth.source) == (2e10, "measured")
        await one.watch.read(Asked(bandwidth=True))
        assert one.machine.asked.count("measure") == 1

    await one.while_running(act)
    again = Watched(tmp_path, Told())

    async def kept() -> None:
        told = await again.watch.read(Asked(bandwidth=True))
        assert told.memory.bandwidth is not None
        assert again.machine.asked.count("measure") == 0

    await again.while_running(kept)


async def test_bandwidth_that_cannot_be_measured_is_not_tried_at_each_question(tmp_path: Path) -> None:
    one = Watched(tmp_path, Told())
    one.machine.speed = None

    async def act() -> None:
        for _ in range(3):
            assert (await one.watch.read(Asked(bandwidth=True))).memory.bandwidth is None
        assert one.machine.asked.count("measure") == 1
        await one.watch.read(Asked(again=True, bandwidth=True))
        assert one.machine.asked.count("measure") == 2
        await anyio.sleep(UNMEASURED)
        await one.watch.read(Asked(bandwidth=True))
        assert one.machine.asked.count("measure") == 3

    await one.while_running(act)


async def test_bandwidth_of_a_busy_machine_is_measured_again_when_everything_is_asked_again(
    tmp_path: Path,
) -> None:
    one = Watched(tmp_path, Told())
    one.machine.speed = Bandwidth(low=5e9, high=2e10, source="measured", note="other programs were busy")

    async def act() -> None:
        told = await one.watch.read(Asked(bandwidth=True))
        assert told.memory.bandwidth is not None
        assert (told.memory.bandwidth.low, told.memory.bandwidth.high) == (5e9, 2e10)
        await one.watch.read(Asked(bandwidth=True))
        assert one.machine.asked.count("measure") == 1
        one.machine.speed = Bandwidth(low=2e10, high=2e10, source="measured")
        for _ in range(2):
            told = await one.watch.read(Asked(again=True, bandwidth=True))
            assert told.memory.bandwidth is not None
            assert (told.memory.bandwidth.low, told.memory.bandwidth.note) == (2e10, "")
        assert one.machine.asked.count("measure") == 2

    await one.while_running(act)


async def test_a_card_that_falls_asleep_keeps_what_it_told_awake(tmp_path: Path) -> None:
    machine = Told()
    one = Watched(tmp_path, machine)

    async def act() -> None:
        machine.replies = {"nvml": Reply(state="asleep", why="a card sleeps, and is not woken")}
        await anyio.sleep(2.0)
        told = await one.watch.read(Asked())
        assert [gpu.memory for gpu in told.gpus or ()] == [24 << 30]

    await one.while_running(act)


async def test_whoever_is_cut_off_has_the_machine_given_up(tmp_path: Path) -> None:
    one = Watched(tmp_path, Told(), 60.0)
    with anyio.move_on_after(1.0):
        await one.watch.read(Asked())
    assert one.machine.given_up == 1
    assert one.store.world.hardware is None


async def test_the_world_without_dates_is_what_is_compared(tmp_path: Path) -> None:
    one = Watched(tmp_path, Told())

    async def act() -> None:
        before = one.store.world
        for _ in range(5):
            await anyio.sleep(2.0)
            await one.watch.read(Asked(again=True))
        assert one.store.world is before
        assert (
            msgspec.msgpack.decode(msgspec.msgpack.encode(before.hardware), type=Hardware) == before.hardware
        )

    await one.while_running(act)
