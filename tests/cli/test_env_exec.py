"""``hived env`` and ``hived exec``: what other programs read from their environment."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

from hived.cli.env import lines, quoted
from hived_client.agent.variables import variables_of
from hived_client.resolution import Target
from tests.cli.words import hived
from tests.daemon.running import Running, configure, llamacpp_at, wait_until
from tests.servers.llamacpp import ALIAS, SAY, LlamaCpp

OLLAMA = Target(
    model="ollama_chat/x", api_base="http://127.0.0.1:11434", endpoint="ollama", provider="ollama", name="x"
)
LAB = Target(
    model="hosted_vllm/m",
    api_base="http://10.0.0.7:8000/v1",
    endpoint="lab",
    provider="vllm",
    name="m",
    api_key="sk-secret",
    key_ref="LAB_KEY",
)


@pytest.fixture(scope="module")
def llamacpp() -> Iterator[LlamaCpp]:
    with LlamaCpp() as server:
        yield server


@pytest.fixture
def watched(environment: dict[str, str], llamacpp: LlamaCpp) -> Iterator[dict[str, str]]:
    configure(environment, llamacpp_at(llamacpp.url))
    with Running(environment) as daemon:
        wait_until(lambda: daemon.client.world().world.endpoints[0].state == "ready")
        yield environment


def test_ollama_is_named_in_everybodys_way() -> None:
    values = variables_of(OLLAMA, {}).values
    assert values["OPENAI_BASE_URL"] == "http://127.0.0.1:11434/v1"
    assert values["OLLAMA_HOST"] == values["OLLAMA_API_BASE"] == "http://127.0.0.1:11434"
    assert values["OPENAI_API_KEY"] == "sk-no-key-required"
    assert values["LITELLM_MODEL"] == "ollama_chat/x"
    assert values["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"


def test_a_key_is_named_and_never_copied() -> None:
    variables = variables_of(LAB, {"LAB_KEY": "sk-secret"})
    assert variables.key_ref == "LAB_KEY"
    assert "OPENAI_API_KEY" not in variables.values
    assert "secret" not in repr(variables)
    assert variables.values["HOSTED_VLLM_API_BASE"] == "http://10.0.0.7:8000/v1"


def test_no_name_of_a_model_ends_the_quotes_of_a_shell() -> None:
    name = "\\'X'; touch PWN # !!"
    assert quoted(name, "fish") == "'\\\\\\'X\\'; touch PWN # !!'"
    assert "\\!\\!" in quoted(name, "csh")
    assert shlex.split(quoted(name, "sh")) == [name]


def test_a_program_ends_by_the_signals_that_python_ignores(environment: dict[str, str]) -> None:
    said = hived(environment, "exec", "--", "grep", "SigIgn", "/proc/self/status")
    bare = subprocess.run(["grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True, check=True)
    assert said.out == bare.stdout


@pytest.mark.parametrize("key", [None, "sk-no-key-required"])
def test_where_the_servers_key_is_not_set_it_gets_none_and_not_another_servers(
    key: str | None,
) -> None:
    here = {"OPENAI_API_KEY": "sk-real"}
    keyless = msgspec.structs.replace(LAB, api_key=key)
    variables = variables_of(keyless, here)
    assert variables.key_ref == "LAB_KEY"
    assert [line for line in lines(variables, "csh") if "API_KEY" in line] == [
        "setenv OPENAI_API_KEY sk-no-key-required"
    ]
    assert (here | variables.values)["OPENAI_API_KEY"] == "sk-no-key-required"


@pytest.mark.parametrize(
    ("present", "bypassed"),
    [
        ("", "127.0.0.1"),
        ("example.com, .corp", "example.com,.corp,127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("*", "*"),
    ],
)
def test_what_goes_without_a_proxy_stays_and_the_server_joins_it(present: str, bypassed: str) -> None:
    assert variables_of(OLLAMA, {"NO_PROXY": present}).values["no_proxy"] == bypassed


@pytest.mark.stress
def test_a_shell_takes_what_is_printed(watched: dict[str, str], llamacpp: LlamaCpp) -> None:
    ask = f"{sys.executable} -P -m hived env llamacpp/{ALIAS}"
    script = f'eval "$({ask})"; echo "$OPENAI_BASE_URL $OPENAI_MODEL"'
    done = subprocess.run(["sh", "-c", script], env=watched, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"{llamacpp.url}/v1", ALIAS]
    said = hived(watched, "env", f"llamacpp/{ALIAS}", "--json")
    assert json.loads(said.out)["variables"]["OPENAI_BASE_URL"] == f"{llamacpp.url}/v1"
    assert "set -gx OPENAI_BASE_URL" in hived(watched, "env", f"llamacpp/{ALIAS}", "--shell", "fish").out
    assert "setenv OPENAI_BASE_URL" in hived(watched, "env", f"llamacpp/{ALIAS}", "--shell", "csh").out


@pytest.mark.stress
def test_a_program_that_knows_nothing_of_hived_calls_the_model(watched: dict[str, str]) -> None:
    program = (
        "import openai, os; print(openai.OpenAI().chat.completions.create(model=os.environ['OPENAI_MODEL'],"
        " messages=[{'role': 'user', 'content': 'hi'}]).choices[0].message.content)"
    )
    broken = watched | {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    said = hived(broken, "exec", "--model", f"llamacpp/{ALIAS}", "--", sys.executable, "-c", program)
    assert (said.code, said.out.strip()) == (0, SAY), said.err


@pytest.mark.stress
def test_the_exit_code_is_the_programs_and_what_cannot_be_run_is_said(watched: dict[str, str]) -> None:
    model = f"llamacpp/{ALIAS}"
    assert hived(watched, "exec", "--model", model, "--", "sh", "-c", "exit 7").code == 7
    said = hived(watched, "exec", "--model", model, "--", "no-such-program")
    assert (said.code, "No such file" in said.err) == (127, True)
    assert hived(watched, "exec", "--model", model, "--", os.sep).code == 126
    assert hived(watched, "exec", "--model", model).code == 2
    said = hived(watched, "exec", "--model", "llamacpp/none", "--", "echo", "it must not run")
    assert (said.code, said.out) == (1, "")
