"""Whether a proxy in the caller's environment would take a call away from a local server. Pure.

By the rules of httpx 0.28, which LiteLLM and the OpenAI library call with: variables as ``urllib.request``
reads them (any case, the lower case wins), the most special pattern first, ``NO_PROXY`` without networks:
``127.0.0.0/8`` covers only ``127.0.0.0`` there. What macOS has in its own settings is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from hived_client.vocabulary.faults import Fault, fault
from hived_client.vocabulary.kinds import address
from hived_client.vocabulary.world import CALLABLE, GUESSED, Endpoint

HERE = ("localhost", "127.0.0.1", "::1")
"""Names of this device, which no proxy should be asked for."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


class _Rule(msgspec.Struct, frozen=True):
    """Addresses, and the variable whose proxy they go through; ``None``: through none."""

    scheme: str
    host: str
    port: int | None
    variable: str | None = None

    @property
    def order(self) -> tuple[bool, int, int]:
        """What is more special comes first: with a port, a longer host, a scheme."""
        return (self.port is None, -len(self.host), -len(self.scheme))

    def matches(self, scheme: str, host: str, port: int | None) -> bool:
        if (self.scheme and self.scheme != scheme) or (self.port is not None and self.port != port):
            return False
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and len(host) > len(self.host) - 1
        if self.host.startswith("*"):
            return host == self.host[1:] or host.endswith(f".{self.host[1:]}")
        return not self.host or host == self.host


def hijacked(url: str, environment: Mapping[str, str]) -> Fault | None:
    """Return the fault where a call to this URL would go through a proxy; a password in it is not shown."""
    scheme = url.partition("://")[0].casefold()
    host, number = address(url)
    host = host.casefold()
    port = None if number == _DEFAULT_PORTS.get(scheme) else number
    settings = _settings(environment)
    rule = next((r for r in sorted(_rules(settings), key=_order) if r.matches(scheme, host, port)), None)
    if rule is None or rule.variable is None:
        return None
    variable, proxy = settings[rule.variable]
    no_proxy, kept = settings.get("no", ("NO_PROXY", ""))
    return fault(
        "proxy.hijacks",
        variable=variable,
        url=url,
        proxy=_without_secrets(proxy),
        no_proxy=no_proxy,
        hosts=_extended(kept, host),
    )


def hijacked_endpoint(endpoints: Iterable[Endpoint], environment: Mapping[str, str]) -> Fault | None:
    """Return the fault for the first endpoint that a call would not reach: one is enough to be told of it."""
    near = [each for each in endpoints if each.locality != "internet" and each.url]
    near.sort(key=lambda each: (each.state not in CALLABLE, each.source in GUESSED))
    return next((found for each in near if (found := hijacked(each.url, environment)) is not None), None)


def _settings(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return ``http``, ``https``, ``all`` and ``no``, each with its variable and value, if it has one."""
    named = [(name, value) for name, value in environment.items() if name[-6:].casefold() == "_proxy"]
    found = {name[:-6].casefold(): (name, value) for name, value in named if value}
    if "REQUEST_METHOD" in environment:
        found.pop("http", None)  # in a CGI script HTTP_PROXY is whatever the visitor says
    for name, value in named:
        if name.endswith("_proxy") and value:
            found[name[:-6].casefold()] = (name, value)
        elif name.endswith("_proxy"):
            found.pop(name[:-6].casefold(), None)
    return found


def _rules(settings: Mapping[str, tuple[str, str]]) -> Iterator[_Rule]:
    excepted = [entry.strip() for entry in settings.get("no", ("", ""))[1].split(",")]
    if "*" in excepted:
        return
    for name in ("http", "https", "all"):
        if name in settings:
            yield _Rule("" if name == "all" else name, "", None, name)
    for entry in filter(None, excepted):
        yield _exception(entry)


def _exception(entry: str) -> _Rule:
    """Read one entry of ``NO_PROXY``: an address, ``localhost``, a URL, or a name with those below it."""
    scheme, separator, rest = entry.rpartition("://")
    if entry.count(":") > 1 and not separator:
        return _Rule("", entry.casefold(), None)  # IPv6
    host, colon, digits = rest.partition("/")[0].rpartition(":")
    if not colon or not digits.isdecimal():
        host, digits = rest.partition("/")[0], ""
    host = host.casefold().strip("[]")
    exact = separator or (not digits and (host == "localhost" or _is_ipv4(host)))
    port = int(digits) if digits else None
    scheme = "" if scheme == "all" else scheme.casefold()
    return _Rule(scheme, host if exact else f"*{host}", port)


def _is_ipv4(host: str) -> bool:
    numbers = host.split(".")
    return len(numbers) == 4 and all(number.isdecimal() and int(number) < 256 for number in numbers)


def _order(rule: _Rule) -> tuple[bool, int, int]:
    return rule.order


def _without_secrets(proxy: str) -> str:
    """Return scheme, host and port of a proxy; a password may have any character, an ``@`` too."""
    scheme, separator, rest = proxy.rpartition("://")
    host = rest.rpartition("@")[2].partition("/")[0].partition("?")[0][:200]
    scheme = scheme if scheme.isalnum() and "@" not in scheme else "http"
    return f"{scheme if separator else 'http'}://{host}"


def _extended(kept: str, host: str) -> str:
    """Return a value for ``NO_PROXY`` that keeps what is there and excepts this device and the host."""
    there = [entry for entry in (entry.strip() for entry in kept.split(",")) if entry]
    return ",".join(dict.fromkeys([*there, *HERE, host]))
