"""A real vLLM on the CPU, with a model of noise, in a folder of its own. Always ended by its own number.

It takes half a minute or more to be ready, on two cores two. Needs a Python that has vLLM: see
``tests/providers/test_real_vllm.py``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from hived.machine.ports import free_port
from tests.servers import tiny_llama

READY = 300.0
"""Seconds for the server to be ready; 28 to 100 were seen."""
LENGTH = 512
"""Tokens that prompt and answer may have."""
NAMES = ("tiny", "best")


class RealVllm:
    """``with RealVllm(python, folder) as server: … server.url``."""

    def __init__(
        self, python: str, folder: Path, *, key: str | None = None, extra: Sequence[str] = ()
    ) -> None:
        self.port = free_port("127.0.0.1")
        self.key = key
        self.model, self.adapter = folder / "model", folder / "adapter"
        self.log = folder / "vllm.log"
        self._python, self._folder, self._extra = python, folder, tuple(extra)
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<RealVllm {self.url} pid={self._process and self._process.pid}>"

    def __enter__(self) -> Self:
        subprocess.run([self._python, tiny_llama.__file__, self.model, self.adapter], check=True, timeout=60)
        options = [
            # Relative, so that it has the form of a repository's name.
            *("--model", self.model.name, "--served-model-name", *NAMES),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--dtype", "float32", "--max-model-len", str(LENGTH), "--max-num-seqs", "2", "--enforce-eager"),
            *("--enable-lora", "--max-lora-rank", "8"),
            *(("--api-key", self.key) if self.key else ()),
            *self._extra,
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._python, "-m", "vllm.entrypoints.openai.api_server", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._environment(),
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The engine and its worker are children of their own, which outlive a server that is killed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def engine(self) -> int:
        """The process that computes."""
        for number in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            if b"EngineCore" in Path(f"/proc/{number}/cmdline").read_bytes():
                return int(number)
        raise AssertionError(f"{self!r} has no engine")

    def wait_ready(self) -> None:
        """Wait until it answers. Raises AssertionError with the end of its log where it never does."""
        end = time.monotonic() + READY
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.ask("GET", "/health")[0] == 200:
                    return
            time.sleep(0.2)  # between two tries
        raise AssertionError(f"{self!r} is not ready:\n{self.log.read_text(errors='replace')[-4000:]}")

    def ask(
        self, method: str, path: str, body: object = None, timeout: float = 60.0
    ) -> tuple[int, dict[str, str], str]:
        """Return status, headers (names in lower case) and text; the key goes along."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json"}
            headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return response.status, names, response.read().decode()

    def chat(self, tokens: int, *, model: str = NAMES[0], timeout: float = 120.0) -> str:
        """Have it generate that many tokens; return the model in whose name it answers."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": tokens,
            "ignore_eos": True,
        }
        status, _, text = self.ask("POST", "/v1/chat/completions", body, timeout)
        assert status == 200, text
        return str(json.loads(text)["model"])

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "HOME": str(self._folder),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_NO_USAGE_STATS": "1",
        }
