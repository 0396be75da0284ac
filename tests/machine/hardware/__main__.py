"""``python -m tests.machine.hardware``: what hived says of each machine, and where its texts come from."""

from __future__ import annotations

from hived.decisions.machine_line import summary
from hived.machine.hardware.bandwidth_table import read_table
from hived.machine.hardware.understanding import understand
from tests.machine.hardware.machines import MACHINES


def main() -> None:
    """Print the table."""
    table = read_table()
    for machine in MACHINES:
        hardware = understand(machine.captured, table)
        print(f"{machine.name}  [{machine.origin}: {machine.source}]")
        print(f"    {summary(hardware)}")
        for gpu in hardware.gpus or ():
            speed = gpu.bandwidth
            said = (
                "unknown"
                if speed is None
                else f"{speed.low / 1e9:.0f}–{speed.high / 1e9:.0f} GB/s, {speed.source}"
            )
            print(f"      {gpu.name}: {gpu.pci or 'no address'}, {gpu.source}; bandwidth {said}")
        for problem in hardware.problems:
            print(f"    ! {problem.message}  → {problem.hint}")


if __name__ == "__main__":
    main()
