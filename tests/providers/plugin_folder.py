"""A folder on the module path with distributions in it, as pip leaves them, each with one plug-in."""

from __future__ import annotations

import textwrap
from pathlib import Path

TOY = """
from hived.providers.base import SMALL, Heard, Model, Provider, ProviderKind, Stranger, Unusable, timeout_for

class Toy:
    provider = "{name}"

    def __init__(self, http, environment):
        self.http = http

    async def look(self, endpoint, *, thorough):
        try:
            answer = await self.http.get(endpoint.url + "/toy", limit=SMALL, timeout=timeout_for(endpoint))
        except Unusable as error:
            return error.outcome
        said = answer.json()
        if not isinstance(said, dict):
            return Stranger()
        {look}
        return Heard(state="ready", version="1.0", models=tuple(Model(name=name) for name in said["models"]))

    def has_push(self, endpoint):
        return False

    async def push(self, endpoint, told):
        pass

def on_disk(environment):
    return (Model(name="from-disk", state="unloaded"),)

PLUGIN = Provider(
    kind=ProviderKind(name="{name}", title="{title}", prefixes=("{name}",), litellm="openai", api_path="/v1",
                      ports={ports}, start="toy serve", placeholder_key="none"),
    probe=Toy,
    shelf=on_disk,
)
"""
"""A whole plug-in, in which a test puts its name and what it does wrong."""


def toy(name: str = "toy", *, title: str = "Toy", look: str = "pass", ports: tuple[int, ...] = ()) -> str:
    """Return the code of a plug-in that speaks the toy protocol."""
    return TOY.format(name=name, title=title, look=look, ports=ports)


def add_plugin(
    folder: Path, code: str, *, name: str = "toy", distribution: str = "hived-toy", attribute: str = "PLUGIN"
) -> None:
    """Install a distribution whose one module has this code, and names a provider in it."""
    module = distribution.replace("-", "_")
    information = folder / f"{module}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[hived.providers]\n{name} = {module}:{attribute}\n")
    (folder / f"{module}.py").write_text(textwrap.dedent(code))
