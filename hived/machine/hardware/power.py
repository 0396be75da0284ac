"""Mains or battery: /sys/class/power_supply, and what ``pmset`` says on macOS. Pure."""

from __future__ import annotations

import re

from hived.machine.hardware.texts import Texts, number, text, under, whole
from hived_client.vocabulary.hardware import Power


def understand_power(texts: Texts) -> Power | None:
    """Read what the machine runs on; ``None`` where nothing tells, as on most desktops."""
    mains, charges, discharging = [], [], False
    for match, kind in under(texts, r"sys/class/power_supply/([^/]+)/type"):
        folder = f"sys/class/power_supply/{match[1]}"
        if text(texts, f"{folder}/scope") == "Device":
            continue  # a mouse's battery
        online = number(texts, f"{folder}/online")
        if kind in ("Mains", "USB", "Wireless") and online is not None:
            mains.append(online == 1)
        elif kind == "Battery":
            charges.append(number(texts, f"{folder}/capacity"))
            discharging = discharging or text(texts, f"{folder}/status") == "Discharging"
    known = [each for each in charges if each is not None]
    if not mains and not charges:
        return None
    return Power(
        mains=any(mains) if mains else not discharging if charges else None,
        charge=min(1.0, sum(known) / len(known) / 100) if known else None,
        source="/sys/class/power_supply",
    )


def understand_pmset(said: str) -> Power | None:
    """Read ``pmset -g batt``."""
    drawn = re.search(r"drawing from '([^']+)'", said)
    if drawn is None:
        return None
    share = re.search(r"(\d{1,3})%", said)
    charge = whole(share[1]) if share else None
    return Power(
        mains=drawn[1] != "Battery Power", charge=charge / 100 if charge is not None else None, source="pmset"
    )
