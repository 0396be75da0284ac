"""Ask this machine what it is, within bounds: the edge of ``hardware``. Blocks; judges no answer.

Every question is asked at once and takes no more than its time (``questions``). A program that hangs is ended
with its group; one that the kernel holds is left behind and not asked again while it is there. Files about
graphics are read by a process of its own as well, since a driver that hangs holds whoever reads them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import msgspec

from hived.decisions.gpus import GIVEN_AWAY
from hived.machine.commands import Run, run_bounded
from hived.machine.hardware import collect
from hived.machine.hardware.limits import wanted_files
from hived.machine.hardware.mac_programs import MAC_FIRST, MAC_MOVING
from hived.machine.hardware.measuring import measure_memory
from hived.machine.hardware.nvidia_smi import FEWER_FIELDS, FIELDS, is_unknown_field
from hived.machine.hardware.pci import understand_pci
from hived.machine.hardware.questions import Question, Questions, Replies, aside, words_of
from hived.machine.hardware.understanding import NOBODY, Captured, Reply
from hived.machine.inside import look_inside
from hived.machine.llamacpp import environment as llamacpp_environment
from hived.machine.owners import user_name
from hived.machine.processes import identify
from hived_client._version import __version__
from hived_client.doors.boot import boot_id
from hived_client.vocabulary.hardware import Bandwidth, Hardware

LONGEST = 10.0
"""Seconds for all questions together."""
EACH = 5.0
"""Seconds for one question."""
MASKS = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    *("GGML_VK_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR"),
)

_PYTHON = (sys.executable, "-P", "-m")
_CHILD = "hived.machine.hardware"


class Asking:
    """One machine, asked as often as somebody wants to know; by one thread after the other."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        root: str = "/",
        run: Run = run_bounded,
        darwin: bool = sys.platform == "darwin",
        wall: Callable[[], float] = time.time,
        each: float = EACH,
        longest: float = LONGEST,
    ) -> None:
        """``each``, ``longest``: seconds for one question, and for all together."""
        self._environment = environment
        self._root = root
        self._run = run
        self._darwin = darwin
        self._wall = wall
        self._each = each
        self._longest = longest
        self._left: dict[str, int] = {}
        self._running: dict[int, None] = {}
        self._fields: tuple[str, ...] = FIELDS
        self._questions = Questions()
        # A thread that nobody waits for any more may still be at it when the next one comes.
        self._turn = threading.Lock()
        self._times_given_up = 0

    def __repr__(self) -> str:
        return f"<Asking {self._root}, {len(self._left) + len(self._questions.hanging)} left behind>"

    def everything(self, skip: frozenset[str] = frozenset()) -> Captured:
        """Ask everything but ``skip``, which are probes that failed and wait for their turn."""
        with self._in_turn():
            if self._darwin:
                return self._mac(MAC_FIRST, {}, skip)
            return self._linux((*collect.SYSTEM, *collect.POWER), None, skip)

    def what_moves(self, before: Captured, skip: frozenset[str] = frozenset()) -> Captured:
        """Ask again for what changes while a machine runs; the rest is as it was captured before."""
        with self._in_turn():
            if self._darwin:
                return self._mac(MAC_MOVING, before.replies, skip)
            return self._linux((*collect.MOVING, *collect.POWER), before, skip)

    def give_up(self) -> None:
        """Have whoever waits for answers wait no longer, and end what runs; from another thread, at once."""
        self._times_given_up += 1
        self._questions.give_up()
        for pid in tuple(self._running):
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)

    def measure(self, hardware: Hardware | None) -> Bandwidth | None:
        """Measure the memory's bandwidth; ``None`` where that fails."""
        return measure_memory(self._run, hardware)

    def mark(self) -> str:
        """Return what differs as soon as facts that do not change by themselves may have changed."""
        with self._in_turn():
            return self._mark()

    def _mark(self) -> str:
        system = os.uname()

        def read_driver(until: float) -> Replies:
            found = collect.collect(self._root, ["proc/driver/nvidia/version"])
            return {"driver": Reply(state="ok", out="".join(found.values()))}

        def find_server() -> str:
            server = shutil.which("llama-server", path=self._environment.get("PATH")) or ""
            try:
                changed = os.stat(server).st_mtime_ns if server else 0
            except OSError:
                changed = 0
            return f"{server} {changed}"

        def look_around() -> str:
            try:
                root = os.stat(self._root)
            except OSError:
                return ""
            return f"{root.st_dev} {root.st_ino}"  # another container of the same name and boot

        questions = {
            "driver": read_driver,
            "server": aside("server", find_server),
            "around": aside("around", look_around),
        }
        found = self._questions.gather(questions, frozenset(), time.monotonic() + self._each)
        masks = [f"{name}={self._environment[name]}" for name in MASKS if name in self._environment]
        parts = [
            __version__,
            boot_id(),
            system.nodename,
            system.machine,
            *(f"{name}: {each.state} {each.out}" for name, each in sorted(found.items())),
            *masks,
        ]
        return "\n".join(parts)

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Wait for whoever is at it; who is given up meanwhile asks nothing any more."""
        before = self._times_given_up
        with self._turn:
            if self._times_given_up == before:
                self._questions.begin()
            yield

    def _mac(
        self, programs: Mapping[str, tuple[str, ...]], before: Replies, skip: frozenset[str]
    ) -> Captured:
        def question(name: str, words: tuple[str, ...]) -> Question:
            return lambda until: {name: self._program(name, words, until)}

        questions = {name: question(name, words) for name, words in programs.items()}
        if programs is MAC_FIRST:
            questions |= {"llama-server": self._devices, "user": self._user}
        replies = before | self._questions.gather(questions, skip, time.monotonic() + self._longest)
        return self._captured(replies, listed_now=programs is MAC_FIRST)

    def _linux(self, patterns: Sequence[str], before: Captured | None, skip: frozenset[str]) -> Captured:
        until = time.monotonic() + self._longest
        system: dict[str, str] = {}
        cards: dict[str, str] = {}

        def read_system(until: float) -> Replies:
            begun = time.monotonic()
            found = collect.collect(self._root, patterns)
            found |= collect.collect(self._root, wanted_files(found.get("proc/self/cgroup", "")))
            system.update(found)
            return {"system": Reply(state="ok", seconds=time.monotonic() - begun)}

        def read_cards(until: float) -> Replies:
            reply = self._program("cards", (*_PYTHON, f"{_CHILD}.collect", self._root), until)
            found = _texts(reply)
            if found is None and reply.state == "ok":
                reply = msgspec.structs.replace(
                    reply, state="failed", why="it printed nothing that can be read"
                )
            cards.update(found or {})
            return {"cards": msgspec.structs.replace(reply, out="")}

        first = min(until, time.monotonic() + self._each)
        wanted: dict[str, Question] = {"system": read_system}
        if before is None or before.cards:
            wanted["cards"] = read_cards  # where there was none at the whole look, none has come
        if before is None:
            inside = partial(look_inside, self._environment, self._root)
            wanted |= {"user": self._user, "inside": aside("inside", inside)}
            wanted["programs"] = aside("programs", self._smi)
        replies = self._questions.gather(wanted, skip, first)
        # A thread that is late may still write into its own; what is kept is as it is now.
        system, cards = dict(system), dict(cards)
        if before is not None:
            system = before.system | system
            cards = cards or before.cards
            replies = before.replies | replies
        questions: dict[str, Question] = {}
        smi = words_of(replies, "programs")
        if smi or _has_nvidia(cards):
            questions["nvidia"] = partial(self._nvidia, smi)
        devices = understand_pci(cards)
        asleep = {
            each.vendor
            for each in devices
            if each.asleep and each.driver not in GIVEN_AWAY and not each.is_built_in
        }
        if before is None and not asleep:
            questions["llama-server"] = self._devices
        if "nvidia" in asleep:
            # Asking any program of its driver wakes the card. What its files and the cache say is enough.
            questions.pop("nvidia", None)
            replies.setdefault("nvml", Reply(state="asleep", why="a card sleeps, and is not woken"))
        replies |= self._questions.gather(questions, skip, until)
        return self._captured(replies, system=system, cards=cards, listed_now=before is None)

    def _user(self, until: float) -> Replies:
        return aside("user", partial(user_name, os.getuid()))(until)

    def _nvidia(self, program: str, until: float) -> Replies:
        """Ask NVIDIA's library, and its program where that does not answer."""
        nvml = self._program("nvml", (*_PYTHON, f"{_CHILD}.nvml_child"), until)
        replies = {"nvml": nvml}
        if nvml.state in ("late", "stuck") or (nvml.state == "ok" and '"devices": [{' in nvml.out):
            return replies  # one that hangs would hang for its program too
        if not program:
            return replies
        replies["nvidia-smi"] = smi = self._ask_smi(program, until)
        if smi.state == "ok":
            query = "--query-compute-apps=gpu_uuid,pid,used_memory"
            words = (program, query, "--format=csv,noheader,nounits")
            replies["nvidia-smi processes"] = self._program("nvidia-smi processes", words, until)
        if smi.state == "ok" and ", Enabled," in smi.out:
            replies["nvidia-smi -L"] = self._program("nvidia-smi -L", (program, "-L"), until)
            replies["nvidia-smi -q -x"] = self._program("nvidia-smi -q -x", (program, "-q", "-x"), until)
        return replies

    def _ask_smi(self, program: str, until: float) -> Reply:
        def ask(fields: Sequence[str]) -> Reply:
            query = f"--query-gpu={','.join(fields)}"
            return self._program("nvidia-smi", (program, query, "--format=csv,noheader,nounits"), until)

        reply = ask(self._fields)
        if not is_unknown_field(reply.out):
            return reply
        self._fields = FEWER_FIELDS
        return ask(self._fields)

    def _devices(self, until: float) -> Replies:
        path = shutil.which("llama-server", path=self._environment.get("PATH"))
        if path is None:
            return {"llama-server": NOBODY}
        words = (path, "--list-devices")
        own = llamacpp_environment(self._environment)
        return {"llama-server": self._program("llama-server", words, until, environment=own)}

    def _program(
        self, name: str, words: Sequence[str], until: float, environment: Mapping[str, str] | None = None
    ) -> Reply:
        """Run a program and say how it went."""
        left = self._left.get(name)
        if left is not None and identify(left) is not None:
            return Reply(
                state="stuck", why=f"process {left}, which was asked before, cannot be ended", left=left
            )
        self._left.pop(name, None)
        seconds = max(0.1, min(self._each, until - time.monotonic() - 0.5))
        started = time.monotonic()
        numbers: list[int] = []
        done = self._run(
            words,
            seconds=seconds,
            environment=environment or self._environment,
            begun=lambda pid: self._note(pid, numbers),
        )
        for pid in numbers:
            self._running.pop(pid, None)
        passed = time.monotonic() - started
        if done is None:
            return Reply(state="absent", why=f"{words[0]} cannot be run")
        if done.left is not None:
            self._left[name] = done.left
            return Reply(
                state="stuck",
                why=f"it hangs in the kernel (process {done.left})",
                seconds=passed,
                left=done.left,
            )
        if done.is_late:
            return Reply(state="late", why=f"it took longer than {seconds:.1f} s", seconds=passed)
        said = f"{done.out}\n{done.err}" if done.code or name == "llama-server" else done.out
        why = "" if done.code == 0 else f"it ended with {done.code}: {_first_line(said)}"
        return Reply(state="ok" if done.code == 0 else "failed", out=said, why=why, seconds=passed)

    def _note(self, pid: int, numbers: list[int]) -> None:
        numbers.append(pid)
        self._running[pid] = None
        if self._questions.is_given_up:  # between two of its steps
            self.give_up()

    def _captured(
        self,
        replies: Replies,
        *,
        system: dict[str, str] | None = None,
        cards: dict[str, str] | None = None,
        listed_now: bool,
    ) -> Captured:
        return Captured(
            darwin=self._darwin,
            system=system or {},
            cards=cards or {},
            replies=replies,
            smi_fields=self._fields,
            affinity=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            inside=words_of(replies, "inside") or None,
            user=words_of(replies, "user"),
            environment={name: self._environment[name] for name in MASKS if name in self._environment},
            listed_now=listed_now,
            hurried=self._each < EACH,
            at=self._wall(),
        )

    def _smi(self) -> str | None:
        found = shutil.which("nvidia-smi", path=self._environment.get("PATH"))
        if found is not None:
            return found
        wsl = os.path.join(self._root, "usr/lib/wsl/lib/nvidia-smi")
        return wsl if os.access(wsl, os.X_OK) else None


def _has_nvidia(cards: Mapping[str, str]) -> bool:
    """Tell whether anything of NVIDIA's is here: without, nobody is asked."""
    files = any(path.startswith(("proc/driver/nvidia/", "access/dev/nvidia")) for path in cards)
    tegra = "etc/nv_tegra_release" in cards or "nvidia" in cards.get("proc/device-tree/compatible", "")
    bus = any(path.endswith("/vendor") and said.strip() == "0x10de" for path, said in cards.items())
    return files or tegra or bus or "access/dev/dxg" in cards


def _texts(reply: Reply) -> dict[str, str] | None:
    if reply.state != "ok":
        return None
    try:
        return msgspec.json.decode(reply.out, type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _first_line(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[0][:200] if lines else "it said nothing"
