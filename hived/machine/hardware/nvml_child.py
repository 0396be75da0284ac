"""``python -m hived.machine.hardware.nvml_child``: ask NVIDIA's library for everything, once, and print it.

A process of its own, because the library can hang in the kernel for good where a card has failed; whoever
started it ends it, or leaves it behind. It prints one JSON object; a question that has no answer is under
``errors`` with the library's own word for why, and no other question suffers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

MOST_LINKS = 18
"""NVLinks that a card has at most."""


def main() -> None:
    """Print what NVML says."""
    try:
        import pynvml
    except ImportError:
        said: dict[str, object] = {"error": "NO_BINDINGS"}
    else:
        said = ask(pynvml)
    json.dump(said, sys.stdout)


def ask(nvml: object) -> dict[str, object]:
    """Ask a library (the module ``pynvml``, or one that answers as it does)."""
    library = Library(nvml)
    error = library.begin()
    if error:
        return {"error": error}
    said: dict[str, object] = {}
    errors: dict[str, str] = {}
    library.put(said, errors, "driver", "nvmlSystemGetDriverVersion")
    library.put(said, errors, "cuda", "nvmlSystemGetCudaDriverVersion_v2")
    library.put(said, errors, "count", "nvmlDeviceGetCount")
    count = said.get("count")
    said["errors"] = errors
    said["devices"] = [device(library, index) for index in range(count if isinstance(count, int) else 0)]
    return said


class Library:
    """The library, with its exceptions turned into words."""

    def __init__(self, nvml: object) -> None:
        self._nvml = nvml
        self._error: type[Exception] = getattr(nvml, "NVMLError", RuntimeError)
        # Not one of the others: raised where a driver is older than the bindings.
        self._mismatch: type[Exception] = getattr(nvml, "NVMLLibraryMismatchError", RuntimeError)

    def begin(self) -> str:
        """Open it; return why that fails, or nothing."""
        _, error = self.call("nvmlInit")
        return error

    def call(self, function: str, *arguments: object) -> tuple[object, str]:
        """Call a function; return its answer, or why there is none."""
        found: Callable[..., object] | None = getattr(self._nvml, function, None)
        if found is None:
            return None, "FUNCTION_NOT_FOUND"
        try:
            return found(*arguments), ""
        except self._error as error:
            return None, self._word(error)
        except self._mismatch:
            return None, "FUNCTION_NOT_FOUND"
        except (AttributeError, TypeError, ValueError, UnicodeDecodeError) as error:
            return None, f"{type(error).__name__}"  # bindings and library do not fit together

    def put(
        self, into: dict[str, object], errors: dict[str, str], name: str, function: str, *arguments: object
    ) -> None:
        """Keep an answer, or its error, under a name."""
        answer, error = self.call(function, *arguments)
        if error:
            errors[name] = error
        else:
            into[name] = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer

    def _word(self, error: Exception) -> str:
        value = getattr(error, "value", None)
        for name in dir(self._nvml):
            if name.startswith("NVML_ERROR_") and getattr(self._nvml, name) == value:
                return name.removeprefix("NVML_ERROR_")
        return str(error)


def device(library: Library, index: int) -> dict[str, object]:
    """Ask about one card, and its slices."""
    handle, error = library.call("nvmlDeviceGetHandleByIndex", index)
    said: dict[str, object] = {"index": index}
    if error:
        return said | {"error": error}
    errors: dict[str, str] = {}
    said["errors"] = errors
    for name, function, arguments in (
        ("name", "nvmlDeviceGetName", ()),
        ("uuid", "nvmlDeviceGetUUID", ()),
        ("cores", "nvmlDeviceGetNumGpuCores", ()),
        ("bus_width", "nvmlDeviceGetMemoryBusWidth", ()),
        ("memory_clock", "nvmlDeviceGetMaxClockInfo", (2,)),
        ("link_generation", "nvmlDeviceGetCurrPcieLinkGeneration", ()),
        ("link_width", "nvmlDeviceGetCurrPcieLinkWidth", ()),
        ("most_link_generation", "nvmlDeviceGetMaxPcieLinkGeneration", ()),
        ("most_link_width", "nvmlDeviceGetMaxPcieLinkWidth", ()),
        ("temperature", "nvmlDeviceGetTemperature", (0,)),
        ("power_limit", "nvmlDeviceGetEnforcedPowerLimit", ()),
        ("throttled", "nvmlDeviceGetCurrentClocksEventReasons", ()),
        ("addressing", "nvmlDeviceGetAddressingMode", ()),
    ):
        library.put(said, errors, name, function, handle, *arguments)
    if "throttled" in errors:  # as it was called before driver 535
        library.put(said, errors, "throttled", "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    compute, error = library.call("nvmlDeviceGetCudaComputeCapability", handle)
    if isinstance(compute, tuple | list):
        said["compute"] = list(compute)
    use, error = library.call("nvmlDeviceGetUtilizationRates", handle)
    if not error:
        said["busy"] = getattr(use, "gpu", None)
    pci, error = library.call("nvmlDeviceGetPciInfo", handle)
    if not error:
        bus = getattr(pci, "busId", "")
        said["pci"] = bus.decode("ascii", "replace") if isinstance(bus, bytes) else bus
    mode, error = library.call("nvmlDeviceGetMigMode", handle)
    if isinstance(mode, tuple | list) and mode:
        said["mig"] = bool(mode[0])
    _memory(library, handle, said, errors)
    _processes(library, handle, said)
    _links(library, handle, said)
    if said.get("mig"):
        said["slices"] = _slices(library, handle)
    return said


def _memory(library: Library, handle: object, said: dict[str, object], errors: dict[str, str]) -> None:
    memory, error = library.call("nvmlDeviceGetMemoryInfo", handle)
    if error:
        errors["memory"] = error
    else:
        said["memory"] = {name: getattr(memory, name, None) for name in ("total", "free", "used")}


def _processes(library: Library, handle: object, said: dict[str, object]) -> None:
    found: dict[int, object] = {}
    for function in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        processes, error = library.call(function, handle)
        if error == "FUNCTION_NOT_FOUND":
            processes, error = library.call(f"{function}_v2", handle)  # before driver 510
        if error or not isinstance(processes, list):
            continue
        said["processes"] = found
        for each in processes:
            found.setdefault(getattr(each, "pid", 0), getattr(each, "usedGpuMemory", None))


def _links(library: Library, handle: object, said: dict[str, object]) -> None:
    up = 0
    for link in range(MOST_LINKS):
        state, error = library.call("nvmlDeviceGetNvLinkState", handle, link)
        if error:
            break
        said["nvlinks"] = up = up + (1 if state == 1 else 0)


def _slices(library: Library, handle: object) -> list[dict[str, object]]:
    most, error = library.call("nvmlDeviceGetMaxMigDeviceCount", handle)
    slices: list[dict[str, object]] = []
    for index in range(most if isinstance(most, int) and not error else 0):
        part, error = library.call("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        if error:
            continue  # this place is empty
        said: dict[str, object] = {"index": index}
        errors: dict[str, str] = {}
        library.put(said, errors, "name", "nvmlDeviceGetName", part)
        library.put(said, errors, "uuid", "nvmlDeviceGetUUID", part)
        _memory(library, part, said, errors)
        slices.append(said | {"errors": errors})
    return slices


if __name__ == "__main__":
    main()
