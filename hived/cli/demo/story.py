"""The demo, step by step. Everything in it is real: the daemon, the server, the model, the times.

It lives in a temporary home and cleans up whatever happens, Ctrl-C included: what it started is ended by
its own process id, and nothing of the user's is read, started or stopped.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from hived.cli.demo.agent import HIVE_TOOK, run_agent, run_and_kill, write_agent
from hived.cli.demo.direct import ask_with_new_client, kept_connection, stream_chat, time_of
from hived.cli.rendering import as_json as as_json_text
from hived.cli.rendering import duration, target_lines
from hived.cli.running import INTERRUPTED, NO, YES, sentence, shown
from hived.cli.screen import status_lines
from hived_client.doors.launch import ensure_running
from hived_client.doors.paths import Places, places
from hived_client.doors.sync import Client
from hived_client.doors.wire import Begun
from hived_client.errors import HivedError, NotReady
from hived_client.resolution import Target

SAYS = "I am a tiny model, and a real llama.cpp on this computer speaks for me."
CALLS = "set_output"
ARGUMENTS: dict[str, str] = {"key": "answer", "value": "Hello from your own machine."}
ASKED = "llamacpp/tiny-agent"

T = TypeVar("T")


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step and what it took, in seconds; ``direct`` is the same without hived, if there is a way."""

    what: str
    seconds: float
    direct: float | None = None
    how: str = ""


class Story:
    """Tells the demo, or keeps quiet and only takes the times."""

    def __init__(self, *, quiet: bool) -> None:
        self.steps: list[Step] = []
        self._quiet = quiet

    def say(self, text: str = "", end: str = "\n") -> None:
        """Print, unless the times alone are wanted."""
        if not self._quiet:
            print(text, end=end, flush=True)

    def begin(self, what: str) -> None:
        """Announce a step."""
        self.say(f"\n● {what}")

    def timed(self, what: str, act: Callable[[], T]) -> T:
        """Do something once and note how long it took."""
        began = time.perf_counter()
        done = act()
        self.steps.append(Step(what=what, seconds=time.perf_counter() - began))
        self.say(f"  {duration(self.steps[-1].seconds)}")
        return done

    def note(self, what: str, seconds: float, direct: float | None = None, how: str = "") -> None:
        """Note what a step took."""
        self.steps.append(Step(what=what, seconds=seconds, direct=direct, how=how))

    def table(self) -> list[str]:
        """Return the steps beside what they cost by direct probing."""
        rows = [("step", "with hived", "by probing", "ratio", "")]
        for step in self.steps:
            direct = duration(step.direct) if step.direct is not None else "–"
            ratio = f"{step.direct / step.seconds:,.0f} ×" if step.direct is not None else ""
            rows.append((step.what, duration(step.seconds), direct, ratio, step.how))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        places = [f"{widths[0]}", *(f">{width}" for width in widths[1:4]), ""]
        return [
            ("  " + "  ".join(f"{cell:{place}}" for cell, place in zip(row, places, strict=True))).rstrip()
            for row in rows
        ]


def tell(*, use_installed: bool, as_json: bool) -> int:
    """Run the demo; return the exit code."""
    story = Story(quiet=as_json)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with temporary_home(guess=use_installed) as where:
            client = Client(where)
            story.begin("start hived in a temporary home")
            with _held_back():  # a daemon that is half started could not be asked to end
                story.timed("start hived", lambda: ensure_running(where))
            if use_installed:
                told = _tell_with_installed(story, client)
            else:
                told = _tell_with_own_server(story, client, where)
            client.close()
            story.begin("what each step took, beside the same question put to the server itself")
            story.say("\n".join(story.table()))
    except KeyboardInterrupt:
        print("\ninterrupted; all that the demo started has been ended", file=sys.stderr)
        return INTERRUPTED
    signal.signal(signal.SIGTERM, before)
    if as_json:
        print(as_json_text(story.steps))
    story.say("\neverything that the demo started has been ended, and its home is gone")
    return told


def _tell_with_own_server(story: Story, client: Client, where: Places) -> int:
    from hived.cli.demo.speaking_model import write_speaking_model

    model = f"{where.home}/tiny-agent.gguf"
    story.begin(f"make a model of 130 kB that can say one sentence: {model}")
    story.timed(
        "make the model", lambda: write_speaking_model(model, say=SAYS, tool=CALLS, arguments=dict(ARGUMENTS))
    )
    story.begin(f"hived start llamacpp --model {model}")
    begun = story.timed("start llama.cpp", lambda: _start(story, client, model))
    _show_status(story, client, begun.url)
    target = _show_answer(story, client, ASKED, begun.url)
    _speak(story, target)
    _run_agent(story, client, where, begun)
    refusal = story.timed("notice that the server is gone", lambda: _wait_refusal(client))
    story.begin(f"hived resolve {ASKED}")
    story.say(_indented(sentence(refusal.fault)))
    mine = time_of(lambda: _refusal(client), 20)
    story.note(
        "say what is wrong", mine, time_of(lambda: ask_with_new_client(begun.url), 10), "new HTTP client"
    )
    return YES


def _tell_with_installed(story: Story, client: Client) -> int:
    story.begin("look for a local model that is already loaded")
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline and any(e.state == "unknown" for e in client.world().world.endpoints):
        time.sleep(0.02)  # it has only just begun to look
    world = client.world().world
    loaded = [
        (e, m) for e in world.endpoints if e.state == "ready" for m in e.models or () if m.state == "loaded"
    ]
    if not loaded:
        story.say("\n".join(status_lines(client.world(), 0)))
        print("no server that hived knows has a loaded model\n  → hived demo", file=sys.stderr)
        return NO
    endpoint, model = loaded[0]
    _show_status(story, client, endpoint.url)
    _speak(story, _show_answer(story, client, f"{endpoint.name}/{model.name}", endpoint.url))
    return YES


def _start(story: Story, client: Client, model: str) -> Begun:
    for step in client.start("llamacpp", model=model, timeout=60.0, restart=False):
        if isinstance(step, Begun):
            return step
        story.say(f"  {shown(step.message)}")
    raise AssertionError("a start ends with what was begun, or with an error")


def _show_status(story: Story, client: Client, url: str) -> None:
    story.begin("hived status")
    story.say(_indented("\n".join(status_lines(client.world(), 0))))
    mine = time_of(client.world, 200)
    story.note("read the status", mine, time_of(lambda: ask_with_new_client(url), 10), "new HTTP client")


def _show_answer(story: Story, client: Client, model: str, url: str) -> Target:
    story.begin(f"hived resolve {shown(model)}")
    target = client.resolve(model)
    story.say(_indented("\n".join(target_lines(model, target))))
    mine = time_of(lambda: client.resolve(model), 2000)
    story.note("resolve", mine, time_of(lambda: ask_with_new_client(url), 10), "new HTTP client")
    with kept_connection(url) as ask:
        story.note("resolve", mine, time_of(ask, 200), "HTTP connection kept open")
    return target


def _speak(story: Story, target: Target) -> None:
    story.begin("call the model with what resolve gave")
    story.say("  ", end="")
    began = time.perf_counter()
    first = None
    for text in stream_chat(target.api_base, target.api_key, target.name, "Who are you?"):
        first = first if first is not None else time.perf_counter() - began
        story.say(shown(text), end="")
    story.say()
    if first is not None:
        story.note("first token of the model", first)


def _run_agent(story: Story, client: Client, where: Places, begun: Begun) -> None:
    folder = write_agent(Path(where.home) / "agents" / "greeter", output=ARGUMENTS["key"])
    story.begin(f'AgentRunner.load("{folder}", model="{ASKED}").run({{"query": "Who are you?"}})')
    result = story.timed("run an agent", lambda: run_agent(folder, ASKED))
    said = result.output.get(ARGUMENTS["key"]) if result.success else result.error
    story.say(f"  {ARGUMENTS['key']}: {shown(str(said))}  ({result.total_tokens} tokens)")
    story.begin(f"run it again, and kill -9 the server (pid {begun.pid}) in the middle of the run")
    assert begun.pid is not None
    result, seconds = run_and_kill(folder, ASKED, begun.pid, lambda: story.say("  killed"))
    story.say(f"  {duration(seconds)}: {shown(result.error or 'it ended well')}")
    story.note(
        "an agent's run ends when its server dies", seconds, HIVE_TOOK, "Hive by itself, measured once"
    )


def _wait_refusal(client: Client) -> NotReady:
    deadline = time.monotonic() + 10.0
    while time.monotonic() < deadline:
        try:
            client.resolve(ASKED)
        except NotReady as refusal:
            return refusal
        time.sleep(0.001)  # the daemon needs the processor too
    raise AssertionError("hived did not notice within 10 s that a server was killed")


def _refusal(client: Client) -> None:
    try:
        client.resolve(ASKED)
    except NotReady:
        return
    raise AssertionError("a server that was killed can not be called")


@contextmanager
def temporary_home(*, guess: bool) -> Iterator[Places]:
    """Give a home of its own to everything in this process and below it; end and remove all of it after."""
    home = tempfile.mkdtemp(prefix="hived-demo-", dir="/tmp")
    names = ("HOME", "HIVE_HOME", "HIVED_RUNTIME_DIR", "XDG_STATE_HOME")
    before = {name: os.environ.get(name) for name in names}
    os.environ.pop("HIVE_HOME", None)
    os.environ |= {"HOME": home, "HIVED_RUNTIME_DIR": f"{home}/run", "XDG_STATE_HOME": f"{home}/state"}
    where = places()
    interrupted = False
    try:
        Path(where.home).mkdir(mode=0o700)
        Path(where.configuration).write_bytes(msgspec.json.encode({"hived": {"guess": guess}}))
        yield where
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        # An impatient second Ctrl-C must not leave half.
        endings = (signal.SIGINT, signal.SIGTERM)
        again = {number: signal.signal(number, signal.SIG_IGN) for number in endings}
        try:
            end_everything(where)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            shutil.rmtree(home, ignore_errors=True)
            for number, handler in again.items() if not interrupted else ():
                signal.signal(number, handler)


@contextmanager
def _held_back() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM take effect only at the end of this block, which must be short."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: came.append(1)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def end_everything(where: Places) -> None:
    """End the daemon of these places, and then what it started, each by its own process id."""
    import anyio

    from hived.machine.processes import identify, stop
    from hived.machine.records import Records

    client = Client(where)
    daemon = client.world().world.daemon
    identity = identify(daemon.pid) if daemon is not None and client.running else None
    try:
        client.retire()
    except HivedError:
        pass  # it has ended already, or hangs: then it is ended below
    client.close()
    if identity is not None:
        anyio.run(stop, identity)
    for record in Records(Path(where.started)).read_all():
        if record.identity is not None:
            anyio.run(stop, record.identity)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
