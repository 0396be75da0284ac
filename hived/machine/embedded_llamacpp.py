"""Run llama.cpp's own HTTP server, out of the xllamacpp wheel, in this process.

``python -P -m hived.machine.embedded_llamacpp --model FILE --port PORT`` behaves like ``llama-server``
for whoever watches it: the listener is up before the model is, and answers 503 until it is loaded. It
ends with status 0 on SIGTERM and SIGINT, and with status 1 and one line when it cannot serve. It is not
part of the daemon: nothing imports this module, and it alone imports xllamacpp.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence

from hived.machine.ports import is_port_free

_ENDINGS = (signal.SIGTERM, signal.SIGINT)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to end; return the exit status of a server that could not start."""
    options = _parser().parse_args(argv)
    # The library holds the interpreter while it loads, so a handler of ours would run only after that,
    # minutes later for a large model. Until then the system's own: a signal ends the process at once.
    for number in _ENDINGS:
        signal.signal(number, signal.SIG_DFL)
    try:
        server = _start(options)
    except ImportError as error:
        return _fail(f"the xllamacpp package cannot be imported: {error}")
    except (OSError, UnicodeDecodeError) as error:
        return _fail(f"the key file cannot be used: {error}")
    except RuntimeError:  # all that the library says; its reasons are in the log above
        return _fail(_guess_failure(options))
    ended = _watch_for_end()
    sys.stdout.write(f"listening on {server}\n")
    sys.stdout.flush()
    ended()
    # Not by taking the library down first (seen: 0.02 s, 0.17 s with half a gigabyte loaded): there is
    # nothing to save, a request that is being answered must not delay the end, and the order in which
    # the interpreter would tear down native threads is not ours. The kernel closes the sockets.
    os._exit(0)


def _start(options: argparse.Namespace) -> str:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.hostnames = [options.host]
    params.port = options.port
    params.endpoint_metrics = options.metrics
    if options.alias:
        params.model_alias = {options.alias}
    if options.api_key_file:
        with open(options.api_key_file, encoding="utf-8") as file:
            params.api_keys = [line.strip() for line in file if line.strip()]
        if not params.api_keys:
            raise OSError(f"no key in {options.api_key_file}")
    if options.ctx_size is not None:
        params.n_ctx = options.ctx_size
    if options.parallel is not None:
        params.n_parallel = options.parallel
    if options.gpu_layers is not None:
        params.n_gpu_layers = options.gpu_layers
    if options.sleep_idle_seconds is not None:
        params.sleep_idle_seconds = options.sleep_idle_seconds
    if options.threads is not None:  # else the library takes one for each physical core
        params.cpuparams.n_threads = options.threads
        params.cpuparams_batch.n_threads = options.threads
    params.warmup = False  # one empty run at the start; the first request pays instead
    params.offline = True
    params.ui = False
    params.cors_origins = "localhost"  # by default every web page may read the answers
    params.cors_origins_explicit = True
    server = xllamacpp.Server(params)
    _keep.append(server)
    return str(server.listening_address)


_keep: list[object] = []  # the server ends when its object goes


def _watch_for_end() -> Callable[[], object]:
    """Arrange for the signals that end us, and return a call that waits for one.

    Through a pipe, since the library's threads may be the ones that get the signal, and then nothing
    wakes a main thread that merely waits.
    """
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    for number in _ENDINGS:
        signal.signal(number, lambda *_: None)
    return lambda: os.read(readable, 1)


def _guess_failure(options: argparse.Namespace) -> str:
    try:
        if not is_port_free(options.host, options.port):
            return f"port {options.port} of {options.host} is taken"
    except PermissionError as error:
        return str(error.strerror)
    except OSError as error:
        return f"{options.host} is no address of this machine: {error.strerror}"
    return f"failed to load model {options.model}"


def _fail(sentence: str) -> int:
    # One write, and on a line of its own: the library's log thread may be in the middle of one.
    os.write(2, f"\nhived-llamacpp: {sentence}\n".encode(errors="replace"))
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hived-llamacpp", allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--alias", default="")
    parser.add_argument("--ctx-size", type=int)
    parser.add_argument("--parallel", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--gpu-layers", type=int)
    parser.add_argument("--sleep-idle-seconds", type=int)
    parser.add_argument("--api-key-file")
    parser.add_argument("--metrics", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
