"""A library of NVIDIA's and programs that say what they are told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from hived.machine.commands import Done


class NvmlFailure(Exception):
    """What the bindings raise."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


class FakeNvml:
    """Answers as the module ``pynvml`` does: a table of functions, of which each returns or raises."""

    NVMLError = NvmlFailure
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NO_PERMISSION = 4
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_GPU_IS_LOST = 15

    def __init__(self, cards: Sequence[Mapping[str, Any]], *, init: int = 0) -> None:
        self._cards = cards
        self._init = init

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            if name == "nvmlInit":
                if self._init:
                    raise NvmlFailure(self._init)
                return None
            if name == "nvmlDeviceGetCount":
                return len(self._cards)
            if name == "nvmlSystemGetDriverVersion":
                return b"570.86.15"
            if name == "nvmlSystemGetCudaDriverVersion_v2":
                return 12080
            if name == "nvmlDeviceGetHandleByIndex":
                return self._of(self._cards[arguments[0]], "handle", self._cards[arguments[0]])
            if name == "nvmlDeviceGetMigDeviceHandleByIndex":
                slices = arguments[0].get("slices", [])
                if arguments[1] >= len(slices):
                    raise NvmlFailure(6)
                return slices[arguments[1]]
            return self._of(arguments[0], name)

        return call

    def _of(self, card: Mapping[str, Any], name: str, default: Any = NvmlFailure(3)) -> Any:  # noqa: B008 - it is never changed
        found = card.get(name, default)
        if isinstance(found, Exception):
            raise found
        return found


def memory(total: int, free: int) -> SimpleNamespace:
    """What nvmlDeviceGetMemoryInfo returns."""
    return SimpleNamespace(total=total, free=free, used=total - free)


class FakeRun:
    """Runs no program: says what the table says for the last word that is in it, and remembers who asked."""

    def __init__(self, answers: Mapping[str, Done | Callable[[], Done | None] | None]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        self.environments: list[Mapping[str, str] | None] = []
        self._lock = threading.Lock()

    def __call__(
        self,
        words: Sequence[str],
        *,
        seconds: float,
        environment: Mapping[str, str] | None = None,
        begun: Callable[[int], None] | None = None,
    ) -> Done | None:
        name = next((each for each in self.answers if any(each in word for word in words)), "")
        with self._lock:
            self.asked.append(name or " ".join(words))
            self.environments.append(environment)
        found = self.answers.get(name)
        return found() if callable(found) else found

    def count(self, name: str) -> int:
        """How often a program was asked."""
        return self.asked.count(name)


def says(out: str, code: int = 0, err: str = "") -> Done:
    """A program that ended."""
    return Done(code=code, out=out, err=err)


LATE = Done(code=-9, out="", err="", is_late=True)
