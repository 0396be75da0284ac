"""The last thing that happens to a text before it is seen: no secret of this environment is left in it. Pure.

What the doctor and ``hived logs`` read was written by others too (logs, command lines), so that it is not
enough that hived itself writes no secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

MASK = "***"
SHORTEST = 6
"""Characters from which the value of a variable is taken for a secret: a shorter one may be any word."""

_SECRET = re.compile(r"KEY(?!BOARD|MAP)|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH(?!OR)", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/\s]+@")
"""``user:password@`` in a URL; a password may have an ``@`` of its own."""
_HEADER = re.compile(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{6,}")
_ASSIGNED = re.compile(
    r"(?i)((?:api[-_]?key|token|passwor[dt]|secret)[\"']?(?:\s*[=:]\s*|\s+)[\"']?)([^\s\"',;]{8,})"
)
"""From eight characters on: llama.cpp writes ``BOS token = 1``, which is none."""
_TYPICAL = re.compile(r"\b(?:sk|hf|gsk|xox[abp]|gh[opsu]|glpat)[-_][A-Za-z0-9_-]{8,}")


def masking(environment: Mapping[str, str], more: frozenset[str] = frozenset()) -> Callable[[str], str]:
    """Return what takes the secrets of an environment out of a text.

    ``more`` are variables that the configuration names as those of keys, whatever they are called.
    """
    found = {
        value.strip()
        for name, value in environment.items()
        if (name in more or _SECRET.search(name)) and _is_secret(value.strip())
    }
    # The longest first: one may be the beginning of another.
    values = sorted(found, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, values))) if values else None

    def masked(text: str) -> str:
        if pattern is not None:
            text = pattern.sub(MASK, text)
        text = _HEADER.sub(rf"\1{MASK}", _USERINFO.sub(f"{MASK}@", text))
        return _TYPICAL.sub(MASK, _ASSIGNED.sub(rf"\1{MASK}", text))

    return masked


def _is_secret(value: str) -> bool:
    # A path (SSH_AUTH_SOCK) and a switch are no secrets, and would be missed where they stand for themselves.
    return len(value) >= SHORTEST and not value.startswith(("/", "unix:")) and not value.isdigit()
