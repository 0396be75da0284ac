"""Commands of hived's own, as a user would type them into a shell. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hived_client.vocabulary.faults import quoted


def start_command(
    provider: str,
    *,
    model: str = "",
    port: int | None = None,
    context: int | None = None,
    alias: str = "",
    arguments: Sequence[str] = (),
) -> str:
    """Return the command that starts a server so. ``port`` 0 is any free one, ``context`` is tokens."""
    words = ["hived", "start", provider]
    words += ["--model", model] if model else []
    words += ["--port", str(port)] if port is not None else []
    words += ["--ctx-size", str(context)] if context else []
    words += ["--alias", alias] if alias else []
    words += ["--", *arguments] if arguments else []
    return " ".join(map(quoted, words))
