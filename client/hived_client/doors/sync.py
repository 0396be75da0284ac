"""The blocking client: no event loop, one deadline a call, and no thread but to look up a host's name."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import msgspec

from hived_client.doors.ask import NO_NAME, REFUSED, Ask, Connect, Resolved, Start, Step, ask, options_of
from hived_client.doors.files import Files, Known, View, known
from hived_client.doors.paths import Places, check_folder
from hived_client.doors.session import HELLO, Session
from hived_client.doors.wire import (
    Begun,
    Nothing,
    Progress,
    Refreshed,
    RefreshParams,
    Reply,
    StartParams,
    StopParams,
    Stopped,
    Welcome,
    model_or_path,
    read_change,
    read_result,
)
from hived_client.errors import HivedError, Refused, Unavailable
from hived_client.resolution import Question, Target
from hived_client.vocabulary.faults import fault
from hived_client.vocabulary.hardware import Asked, Hardware
from hived_client.vocabulary.requests import RequestCounts
from hived_client.vocabulary.world import Change

CALL_TIMEOUT = 5.0
"""Seconds that a call may take where the caller gives no number, and the greeting before a longer one."""

LOOK_TIMEOUT = 25.0
"""Seconds for a look at the machine: all its probes have ten together, and measuring comes on top."""

STOP_PATIENCE = 100.0
"""Seconds beyond its own grace that a stop may take: a unit ends, or a start of that kind comes first."""

MOST_KEPT = 4
"""Idle connections that a client keeps."""


class Connection:
    """One connection to the daemon. Every wait has a deadline."""

    def __init__(self, places: Places, timeout: float) -> None:
        """Connect and send hello. Raises ``Unavailable``."""
        self._session = Session()
        self._waiting: list[Reply] = []
        self.owner = os.getpid()
        try:
            check_folder(os.path.dirname(places.socket))
        except FileNotFoundError as error:
            raise Unavailable(fault("daemon.not_running")) from error
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise _unreachable(error) from error
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(places.socket)
        except OSError as error:
            self._socket.close()
            raise _unreachable(error) from error
        self._unsent = HELLO

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection {self._session!r}>"

    @property
    def welcome(self) -> Welcome | None:
        """What the daemon said of itself, once it has answered."""
        return self._session.welcome

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def call(self, method: str, params: msgspec.Struct, shape: Any, timeout: float) -> Any:
        """Ask, and return the result. Raises ``Refused`` for a fault, ``Unavailable`` without an answer."""
        *_, last = self.stream(method, params, timeout)
        return read_result(last, shape)

    def stream(self, method: str, params: msgspec.Struct, timeout: float) -> Iterator[Reply]:
        """Ask, and yield every message about it; the last one has a result or a fault.

        What may take minutes is waited for only where somebody has said hello.
        """
        if timeout > CALL_TIMEOUT and self.welcome is None:
            self.greet(CALL_TIMEOUT)
        deadline = time.monotonic() + timeout
        number, data = self._session.request(method, params)
        try:
            self._socket.settimeout(max(timeout, 0.001))
            self._socket.sendall(self._unsent + data)
            self._unsent = b""
            while True:
                replies = self._replies(deadline)
                while replies:
                    reply = replies.pop(0)
                    if reply.id == number:
                        if reply.event is None:
                            self._waiting = replies  # the first events may come in the same bytes
                            yield reply
                            return
                        yield reply
        except TimeoutError as error:
            raise Unavailable(
                fault("daemon.unresponsive", why=f"no answer within {round(timeout, 3):g} s")
            ) from error
        except OSError as error:
            raise _unreachable(error) from error

    def greet(self, timeout: float) -> Welcome:
        """Say hello and wait for the answer."""
        deadline = time.monotonic() + timeout
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(self._unsent)
            self._unsent = b""
            while self._session.welcome is None:
                self._waiting += self._receive(deadline)
        except TimeoutError as error:
            raise Unavailable(
                fault("daemon.unresponsive", why=f"no hello within {round(timeout, 3):g} s")
            ) from error
        except OSError as error:
            raise _unreachable(error) from error
        return self._session.welcome

    def events(self, timeout: float) -> Iterator[Change]:
        """Subscribe and yield changes until the connection ends; only the subscription has a deadline."""
        for reply in self.stream("subscribe", Nothing(), timeout):
            read_result(reply, Refreshed)
        while True:
            try:
                replies = self._replies(None)
            except OSError as error:
                raise _unreachable(error) from error
            for reply in replies:
                if reply.fault is not None:
                    raise Unavailable(reply.fault)
                if reply.event is not None:
                    yield read_change(reply)

    def _replies(self, deadline: float | None) -> list[Reply]:
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            return waiting
        return self._receive(deadline)

    def _receive(self, deadline: float | None) -> list[Reply]:
        if deadline is None:
            self._socket.settimeout(None)
        else:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
        return self._session.feed(self._socket.recv(65_536))


class Client:
    """Ask hived from blocking code, from any number of threads. Verbs as on the command line.

    Questions are answered from the files; a connection is made for what the files can not say, and kept.
    """

    def __init__(self, places: Places | None = None, *, environment: Mapping[str, str] | None = None) -> None:
        self._kept: list[Connection] = []
        self._files = Files(places, environment=environment)
        self._environment = os.environ if environment is None else environment

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self._files!r}, {len(self._kept)} connections>"

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        while self._kept:
            self._kept.pop().close()

    def look(self) -> View:
        """Look at the daemon's files, without waiting; an endpoint is decoded only when it is asked for."""
        return self._files.look()

    def resolve(
        self,
        model: str,
        *,
        context: int | None = None,
        needs: Iterable[str] | None = (),
        private: bool | str = False,
        fresh: bool = False,
        verify: bool = False,
        start: bool = False,
        direct: bool = False,
        timeout: float | None = None,
        tell: Callable[[Progress], None] | None = None,
    ) -> Target:
        """Return how to call a model now. Raises ``NotReady`` with what is wrong and what mends it.

        ``start`` starts the daemon, and the model's server where that is on this device and down; ``tell``
        is told how far that is. ``timeout`` is for everything: by default 0.25 s, and 120 s with ``start``.

        Where a proxy of the environment would take the call (``proxy.hijacks``), that is a warning, and for a
        private question the answer. ``direct``: the caller uses no proxy, so there is nothing to say.
        """
        question = Question.of(model, context=context, needs=needs, private=private)
        options = options_of(fresh=fresh, verify=verify, start=start, direct=direct, timeout=timeout)
        steps = ask(self._files, question, options, self._environment)
        try:
            step = next(steps)
            while True:
                try:
                    done = self._perform(step, tell)
                except HivedError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(done)
        except StopIteration as end:
            target: Target = end.value
            return target

    @property
    def running(self) -> bool:
        """Whether there is a daemon to ask, as far as the files and one connection tell."""
        return self._files.look().running

    def world(self) -> Known:
        """Return the last World with its verdict. Never raises for what is in the files."""
        return known(self._files.look(), time.time())

    def refresh(self, endpoint: str | None = None, *, timeout: float = 2.0) -> int:
        """Have the servers looked at again; return the generation that holds what was seen."""
        params = RefreshParams(endpoint=endpoint, timeout=timeout)
        done: Refreshed = self._call("refresh", params, Refreshed, timeout + 0.5)
        return done.generation

    def reload(self, *, timeout: float = CALL_TIMEOUT) -> int:
        """Have the configuration read again."""
        done: Refreshed = self._call("reload", Nothing(), Refreshed, timeout)
        return done.generation

    def statistics(self, *, timeout: float = CALL_TIMEOUT) -> dict[str, Any]:
        """Return what the daemon counts about itself."""
        done: dict[str, Any] = self._call("statistics", Nothing(), dict[str, Any], timeout)
        return done

    def requests(self, *, timeout: float = CALL_TIMEOUT) -> RequestCounts:
        """Return how many requests servers work on now; hived asks those that tell, once a second at most."""
        done: RequestCounts = self._call("requests", Nothing(), RequestCounts, timeout)
        return done

    def hardware(
        self, *, again: bool = False, bandwidth: bool = False, timeout: float = LOOK_TIMEOUT
    ) -> Hardware:
        """Return what this machine is, with what is free now. The first time it may take seconds.

        ``again``: look at everything again. ``bandwidth``: measure the memory's, if nobody has yet.
        """
        done: Hardware = self._call("hardware", Asked(again=again, bandwidth=bandwidth), Hardware, timeout)
        return done

    def events(self, *, timeout: float = CALL_TIMEOUT) -> Iterator[Change]:
        """Yield every change from now on. Raises ``Unavailable`` when the daemon ends."""
        with Connection(self._places, timeout) as connection:
            yield from connection.events(timeout)

    def start(
        self,
        provider: str,
        *,
        model: str | None = None,
        port: int | None = None,
        context: int | None = None,
        alias: str | None = None,
        arguments: tuple[str, ...] = (),
        timeout: float = 600.0,
        restart: bool = True,
        serving: str | None = None,
    ) -> Iterator[Progress | Begun]:
        """Start a server: yield how far it is, and at last what was begun. Raises ``Refused``.

        ``provider`` may be an endpoint's name too. ``restart``: it is started again when it ends by accident.
        ``serving``: the model that is wanted of it, where it is started with one and ``model`` names none.
        """
        params = StartParams(
            provider=provider,
            model=model_or_path(provider, model),
            port=port,
            context=context,
            alias=alias,
            arguments=arguments,
            timeout=timeout,
            restart=restart,
            serving=serving,
        )
        with Connection(self._places, CALL_TIMEOUT) as connection:
            for reply in connection.stream("start", params, timeout + 5.0):
                shape = Begun if reply.event is None else Progress
                yield read_result(
                    reply if reply.event is None else msgspec.structs.replace(reply, result=reply.body), shape
                )

    def stop(self, name: str, *, everything: bool = False, grace: float = 10.0) -> Stopped:
        """Stop what hived started under this name. Raises ``Refused``."""
        params = StopParams(name=name, everything=everything, grace=grace)
        stopped: Stopped = self._call_once("stop", params, Stopped, grace + STOP_PATIENCE)
        return stopped

    def retire(self, *, timeout: float = CALL_TIMEOUT) -> None:
        """Ask the daemon to end."""
        self._call_once("retire", Nothing(), Nothing, timeout)

    def greet(self, *, timeout: float = CALL_TIMEOUT) -> Welcome:
        """Return what the daemon says of itself. Raises ``Unavailable``."""
        with Connection(self._places, timeout) as connection:
            return connection.greet(timeout)

    @property
    def _places(self) -> Places:
        return self._files.look().places

    def _perform(self, step: Step, tell: Callable[[Progress], None] | None) -> object:
        if isinstance(step, Start):
            for each in self.start(step.endpoint, serving=step.model, timeout=step.timeout):
                if isinstance(each, Progress) and tell is not None:
                    tell(each)
            return None
        if isinstance(step, Ask):
            return self._call("resolve", step.params, Resolved, step.timeout + 0.05)
        if isinstance(step, Connect):
            return connect(step)
        from hived_client.doors.launch import START_TIMEOUT, ensure_running

        return ensure_running(self._files.candidates[0], timeout=min(step.timeout, START_TIMEOUT))

    def _call(self, method: str, params: msgspec.Struct, shape: Any, timeout: float) -> Any:
        """Call on a kept connection; on one that turns out to be dead, once more on a new one.

        A connection is taken out while it is used, so threads never share one, and is kept only after
        a whole answer: a call that was cut short leaves its answer behind.
        """
        try:
            kept = self._kept.pop()
        except IndexError:
            pass
        else:
            if kept.owner == os.getpid():  # after a fork it is the parent's
                try:
                    return self._call_on(kept, method, params, shape, timeout)
                except Unavailable as error:
                    if error.code != "protocol.broken":
                        raise
            else:
                kept.close()
        return self._call_on(Connection(self._places, timeout), method, params, shape, timeout)

    def _call_once(self, method: str, params: msgspec.Struct, shape: Any, timeout: float) -> Any:
        """Call on a new connection, and never again: a second ``retire`` could end a successor."""
        with Connection(self._places, timeout) as connection:
            return connection.call(method, params, shape, timeout)

    def _call_on(
        self, connection: Connection, method: str, params: msgspec.Struct, shape: Any, timeout: float
    ) -> Any:
        whole = False
        try:
            result = connection.call(method, params, shape, timeout)
            whole = True
        except Refused:
            whole = True
            raise
        finally:
            if whole and len(self._kept) < MOST_KEPT:
                self._kept.append(connection)
            else:
                connection.close()
        return result


def connect(step: Connect) -> str | None:
    """Open a TCP connection and close it; return why it failed."""
    return _connect(step) if _is_number(step.host) else _connect_to_name(step)


def _connect_to_name(step: Connect) -> str | None:
    """Connect within the time for all: a look-up has no deadline, and each address that it finds its own."""
    import threading

    said: list[str | None] = []
    thread = threading.Thread(target=lambda: said.append(_connect(step)), name="connect", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return "no thread is left to look up its name"
    thread.join(step.timeout)
    return said[0] if said else f"no connection within {round(step.timeout, 3):g} s"


def _is_number(host: str) -> bool:
    """Tell whether a host is an address, which nobody looks up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False


def _connect(step: Connect) -> str | None:
    try:
        socket.create_connection((step.host, step.port), step.timeout).close()
    except ConnectionRefusedError:
        return REFUSED
    except TimeoutError:
        return f"no connection within {round(step.timeout, 3):g} s"
    except OSError as error:
        return error.strerror or type(error).__name__
    except ValueError:  # a label of a name that is too long, or empty
        return NO_NAME
    return None


def _unreachable(error: OSError) -> Unavailable:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return Unavailable(fault("daemon.not_running"))
    if isinstance(error, TimeoutError | BlockingIOError):
        return Unavailable(fault("daemon.unresponsive", why="it does not accept the connection"))
    return Unavailable(fault("protocol.broken", why=error.strerror or type(error).__name__))


shared = Client()
"""The client behind ``hived_client.resolve`` and ``hived_client.world``."""
