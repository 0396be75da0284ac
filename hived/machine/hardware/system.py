"""The operating system, the model of the computer, and what is around this system. Pure."""

from __future__ import annotations

import re

from hived.machine.hardware.texts import Texts, text
from hived_client.vocabulary.hardware import System
from hived_client.vocabulary.wsl import wsl_of


def understand_system(texts: Texts, inside: str | None = None) -> System:
    """Read a Linux system. ``inside``: what it runs in, as ``look_inside`` tells."""
    release = text(texts, "etc/os-release")
    named = re.search(r'^PRETTY_NAME="?([^"\n]+)', release, re.MULTILINE)
    kernel = text(texts, "proc/version")
    version = re.match(r"Linux version (\S+)", kernel)
    return System(
        name=named[1] if named else None,
        kernel=version[1] if version else None,
        machine=_machine(texts),
        inside=inside,
        wsl=bool(wsl_of(kernel, {})),
        source="/etc/os-release, /proc/version",
    )


def _machine(texts: Texts) -> str | None:
    """Return the computer's model: the device tree's, else the maker's and the product's name."""
    if model := text(texts, "proc/device-tree/model"):
        return model
    vendor, product = text(texts, "sys/class/dmi/id/sys_vendor"), text(texts, "sys/class/dmi/id/product_name")
    if not product or product in ("System Product Name", "To Be Filled By O.E.M.", "Default string"):
        return None
    return product if not vendor or product.startswith(vendor) else f"{vendor} {product}"
