"""A vLLM and an LM Studio that hived starts, through a real daemon. The programs are fakes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hived.machine.ports import free_port
from hived.machine.records import Records
from hived_client.doors.wire import Begun, Progress
from hived_client.errors import HivedError
from hived_client.vocabulary.world import Endpoint
from tests.cli.words import hived
from tests.daemon.running import DEADLINE, Running, configure, wait_until
from tests.machine.user_manager import UserManagerPrograms, user_manager
from tests.servers.lm_studio import QWEN, LmStudio
from tests.servers.programs import LmsProgram, OllamaProgram, VllmProgram

pytestmark = pytest.mark.slow


@pytest.fixture
def programs(home: Path) -> Path:
    folder = home / "bin"
    folder.mkdir()
    return folder


@pytest.fixture
def variables(programs: Path, environment: dict[str, str]) -> dict[str, str]:
    return environment | {"PATH": f"{programs}:{environment['PATH']}"}


@pytest.fixture
def vllm(programs: Path) -> VllmProgram:
    return VllmProgram(programs)


@pytest.fixture
def lms(programs: Path) -> Iterator[LmsProgram]:
    program = LmsProgram(programs)
    yield program
    program.close()


def begun(daemon: Running, provider: str, **options: object) -> Begun:
    last = list(daemon.client.start(provider, **({"timeout": DEADLINE} | options)))[-1]  # type: ignore[arg-type]
    assert isinstance(last, Begun)
    return last


def endpoints(daemon: Running) -> dict[str, Endpoint]:
    return {endpoint.name: endpoint for endpoint in daemon.client.world().world.endpoints}


def test_a_vllm_is_started_with_its_model_and_told_how_far_it_is(
    variables: dict[str, str], vllm: VllmProgram
) -> None:
    configure(variables)
    vllm.hold()
    told: list[str] = []
    with Running(variables) as daemon:

        def ask() -> None:
            for step in daemon.another().start("vllm", model="org/tiny", context=256, timeout=DEADLINE):
                told.append(step.message if isinstance(step, Progress) else step.endpoint)

        asking = threading.Thread(target=ask)
        asking.start()
        for number, words in enumerate(("starting", "loading weights", "loading weights, 50 %", "compiling")):

            def says(words: str = words) -> bool:
                reasons = [e.reason.message for e in endpoints(daemon).values() if e.reason is not None]
                stage = words.partition(",")[0]
                return any(stage in reason for reason in reasons) and any(
                    words in message for message in told
                )

            wait_until(says, lambda: f"{told} {endpoints(daemon)} {daemon.log[-2000:]}")
            vllm.let_on(number)
        asking.join(60.0)
        name = told[-1]
        assert f"{name} is starting: loading weights, 50 %" in told
        (pid, words_given) = vllm.starts[0]
        port = endpoints(daemon)[name].url.rpartition(":")[2]
        assert words_given == (
            *("serve", "org/tiny", "--host", "127.0.0.1", "--port", port),
            *("--served-model-name", "org/tiny", "--max-model-len", "256"),
        )
        target = daemon.client.resolve("vllm/org/tiny", context=256)
        assert target.api_base == f"http://127.0.0.1:{port}/v1"
        assert begun(daemon, "vllm", model="org/tiny").pid == pid
        assert daemon.client.stop("vllm").endpoints == {name: "terminated"}
        assert not os.path.exists(f"/proc/{pid}/exe")


def test_a_vllm_that_dies_comes_back_at_its_port_with_what_it_was_given(
    variables: dict[str, str], vllm: VllmProgram, home: Path
) -> None:
    configure(variables)
    (home / "model").mkdir()
    (home / "model" / "config.json").write_text("{}")
    with Running(variables) as daemon:
        first = begun(daemon, "vllm", model=str(home / "model"), arguments=("--enforce-eager", "1"))
        assert first.models == ("model",)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: len(vllm.starts) == 2)
        assert vllm.starts[0][1] == vllm.starts[1][1]
        wait_until(lambda: endpoints(daemon)[first.endpoint].state == "ready")
        daemon.client.stop(first.endpoint)


def test_two_models_for_one_address_get_two_servers_of_which_one_has_it(
    variables: dict[str, str], vllm: VllmProgram
) -> None:
    port = free_port()
    configure(variables, {"lab": {"like": "vllm", "api_base": f"http://127.0.0.1:{port}/v1"}})
    with Running(variables) as daemon:
        found: list[Begun] = []
        askers = [
            threading.Thread(target=lambda name=name: found.append(begun(daemon, "lab", model=name)))
            for name in ("org/one", "org/two", "org/three")
        ]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(60.0)
        assert len({each.pid for each in found}) == len({each.url for each in found}) == 3
        assert f"http://127.0.0.1:{port}" in {each.url for each in found}
        assert {each.models for each in found} == {("org/one",), ("org/two",), ("org/three",)}
        assert len(daemon.client.stop("vllm", everything=True).endpoints) == 3
        assert not [pid for pid, _ in vllm.starts if os.path.exists(f"/proc/{pid}/exe")]


@pytest.mark.parametrize(("wanted", "comes"), [("org/theirs", "adopted"), ("org/other", "begun")])
def test_a_vllm_that_somebody_is_starting_at_the_place_is_waited_for(
    variables: dict[str, str], vllm: VllmProgram, wanted: str, comes: str
) -> None:
    port = free_port()
    configure(variables, {"lab": {"like": "vllm", "api_base": f"http://127.0.0.1:{port}/v1"}})
    vllm.hold()
    words = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "org/theirs"]
    with (
        Running(variables) as daemon,
        subprocess.Popen(
            [str(vllm.path), "serve", "org/theirs", *words], stdout=subprocess.DEVNULL
        ) as theirs,
    ):
        try:
            wait_until(lambda: endpoints(daemon)["lab"].state == "starting")
            came: list[str] = []

            def ask() -> None:
                try:
                    came.append("adopted" if begun(daemon, "lab", model=wanted).adopted else "begun")
                except HivedError as error:
                    came.append(error.code)

            asking = threading.Thread(target=ask)
            asking.start()
            for stage in range(4):
                vllm.let_on(stage)
            asking.join(60.0)
            assert came == [comes]
            assert len(vllm.starts) == (
                1 if comes == "adopted" else 2
            )  # a model of its own, a port of its own
            assert theirs.poll() is None
        finally:
            theirs.kill()


def test_who_waits_for_a_start_that_is_stopped_is_told_so(
    variables: dict[str, str], vllm: VllmProgram
) -> None:
    configure(variables)
    vllm.hold()
    codes: list[str] = []
    with Running(variables) as daemon:

        def ask() -> None:
            try:
                begun(daemon, "vllm", model="org/tiny")
            except HivedError as error:
                codes.append(error.code)

        asker = threading.Thread(target=ask)
        asker.start()
        wait_until(lambda: vllm.starts)
        assert list(daemon.client.stop("vllm").endpoints.values()) == ["terminated"]
        asker.join(60.0)
        assert codes == ["start.stopped"]
        assert endpoints(daemon) == {}


def test_lm_studio_is_started_by_its_own_command_and_stopped_by_it(
    variables: dict[str, str], lms: LmsProgram
) -> None:
    port = free_port()
    configure(variables, {"lm_studio": {"api_base": f"http://127.0.0.1:{port}/v1"}})
    with Running(variables) as daemon:
        found = begun(daemon, "lm_studio")
        assert (found.endpoint, found.pid, found.adopted) == ("lm_studio", None, False)
        assert lms.calls == [f"server start --port {port}"]
        assert begun(daemon, "lm_studio").adopted is False
        daemon.kill()
        daemon.start()
        wait_until(lambda: endpoints(daemon)["lm_studio"].state == "ready")
        application = lms.application
        assert daemon.client.stop("lm_studio").endpoints == {"lm_studio": "terminated"}
        assert lms.calls == [f"server start --port {port}", "server stop"]
        assert lms.application == application  # only its server has ended
        assert os.listdir(daemon.where.started) == []


def test_an_lm_studio_that_the_user_stopped_is_no_longer_ours(
    variables: dict[str, str], lms: LmsProgram
) -> None:
    port = free_port()
    configure(variables, {"lm_studio": {"api_base": f"http://127.0.0.1:{port}/v1"}})
    with Running(variables) as daemon:
        begun(daemon, "lm_studio")
        lms.close()
        wait_until(lambda: os.listdir(daemon.where.started) == [])
        with LmStudio(port=port):
            assert begun(daemon, "lm_studio").adopted
            said = hived(variables, "stop", "lm_studio")
            assert "has not started LM Studio" in said.err
        assert begun(daemon, "lm_studio").adopted is False


def test_an_lm_studio_that_went_before_it_was_seen_is_started_again(
    variables: dict[str, str], lms: LmsProgram
) -> None:
    port = free_port()
    configure(variables, {"lm_studio": {"api_base": f"http://127.0.0.1:{port}/v1"}})
    with Running(variables) as daemon:
        found = begun(daemon, "lm_studio")
        daemon.kill()
        lms.close()
        records = Records(Path(daemon.where.started))
        (record,) = records.read_all()
        records.write(msgspec.structs.replace(record, ready_at=None))
        daemon.start()
        wait_until(lambda: endpoints(daemon)["lm_studio"].state == "down")
        assert begun(daemon, "lm_studio").url == found.url
        assert len(lms.calls) == 2
        assert daemon.client.stop("lm_studio").endpoints == {"lm_studio": "terminated"}


def test_an_lm_studio_that_serves_elsewhere_is_not_moved(variables: dict[str, str], lms: LmsProgram) -> None:
    with LmStudio() as server:
        configure(variables, {"lm_studio": {"api_base": f"{server.url}/v1"}})
        with Running(variables) as daemon:
            wait_until(lambda: endpoints(daemon)["lm_studio"].state == "ready")
            found = begun(daemon, "lm_studio", port=free_port())
            assert (found.adopted, found.url) == (True, server.url)
            assert lms.calls == []


def test_what_lms_says_is_told(variables: dict[str, str], lms: LmsProgram) -> None:
    configure(variables, {"lm_studio": {"api_base": f"http://127.0.0.1:{free_port()}/v1"}})
    lms.break_down(
        "Failed to start LM Studio service. Please make sure it is installed and have run it once."
    )
    with Running(variables) as daemon, pytest.raises(HivedError) as caught:
        begun(daemon, "lm_studio")
    assert caught.value.code == "start.not_installed"
    assert "have run it once" in caught.value.message


@pytest.fixture
def manager(programs: Path, home: Path) -> Iterator[UserManagerPrograms]:
    with user_manager(programs, home / "xdg") as found:
        yield found


def test_in_units_lm_studio_leaves_its_application_and_vllm_outlives_the_daemon(
    variables: dict[str, str], manager: UserManagerPrograms, lms: LmsProgram, vllm: VllmProgram
) -> None:
    configure(variables, {"lm_studio": {"api_base": f"http://127.0.0.1:{free_port()}/v1"}})
    with Running(variables | manager.environment) as daemon:
        begun(daemon, "lm_studio")
        first = begun(daemon, "vllm", model="org/tiny")
        assert len(manager.units) == 2
        assert endpoints(daemon)[first.endpoint].process is not None
        daemon.kill()
        daemon.start()
        wait_until(lambda: {e.state for e in endpoints(daemon).values()} == {"ready"})
        assert begun(daemon, "vllm", model="org/tiny").pid == first.pid
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: len(vllm.starts) == 2)
        wait_until(lambda: endpoints(daemon)[first.endpoint].state == "ready")
        application = lms.application
        assert daemon.client.stop("lm_studio").endpoints == {"lm_studio": "terminated"}
        assert daemon.client.stop("vllm").endpoints == {first.endpoint: "terminated"}
        assert lms.application == application
        # The application is in the unit of the command that woke it, and is nobody's hindrance.
        assert [state["ActiveState"] for state in manager.units.values()] == ["inactive"]
        assert begun(daemon, "lm_studio").adopted is False
        assert daemon.client.stop("lm_studio").endpoints == {"lm_studio": "terminated"}


def test_a_question_starts_a_vllm_with_a_model_of_the_disk_and_with_no_other(
    variables: dict[str, str], vllm: VllmProgram, home: Path
) -> None:
    commit = "a" * 40
    folder = home / ".cache/huggingface/hub/models--org--tiny"
    (snapshot := folder / "snapshots" / commit).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(commit)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"x" * 64)
    url = f"http://127.0.0.1:{free_port()}"
    configure(variables, {"vllm": {"api_base": url}})
    with Running(variables) as daemon:
        wait_until(lambda: endpoints(daemon)["vllm"].models)
        said = hived(variables, "resolve", "--start", "vllm/org/other")
        assert said.code == 1
        assert "hived start vllm --model org/other" in said.err
        assert daemon.client.resolve("vllm/org/tiny", start=True).api_base == f"{url}/v1"
        assert len(vllm.starts) == 1


def test_a_question_starts_lm_studio(variables: dict[str, str], lms: LmsProgram) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    configure(variables, {"lm_studio": {"api_base": f"{url}/v1"}})
    with Running(variables) as daemon:
        wait_until(lambda: endpoints(daemon)["lm_studio"].state == "down")
        assert daemon.client.resolve(f"lm_studio/{QWEN}", start=True).api_base == f"{url}/v1"
        assert len(lms.calls) == 1


def test_all_kinds_are_started_with_the_daemon_where_the_configuration_says_so(
    variables: dict[str, str], lms: LmsProgram, vllm: VllmProgram, programs: Path
) -> None:
    ollama = OllamaProgram(programs)
    ports = [free_port() for _ in range(3)]
    entries: dict[str, object] = {
        "ollama": {"api_base": f"http://127.0.0.1:{ports[0]}", "autostart": True},
        "lm_studio": {"api_base": f"http://127.0.0.1:{ports[1]}/v1", "autostart": True},
        "vllm": {
            "api_base": f"http://127.0.0.1:{ports[2]}/v1",
            "autostart": {"model": "org/tiny", "context": 256, "arguments": ["--dtype", "float16"]},
        },
        "Große Lampe": {"like": "vllm", "autostart": {"model": "org/second"}},
    }
    configure(variables, entries)
    with Running(variables) as daemon:
        wait_until(
            lambda: [e.state for e in endpoints(daemon).values()] == ["ready"] * 4,
            lambda: f"{endpoints(daemon)} {daemon.log[-3000:]}",
        )
        assert (len(ollama.starts), len(lms.calls), len(vllm.starts)) == (1, 1, 2)
        first = next(words for _, words in vllm.starts if "org/tiny" in words)
        assert first[-2:] == ("--dtype", "float16")
        assert str(ports[2]) in first
        assert "Traceback" not in daemon.log


def test_a_vllm_that_is_to_be_started_without_a_model_says_so(
    variables: dict[str, str], vllm: VllmProgram
) -> None:
    configure(variables, {"vllm": {"api_base": f"http://127.0.0.1:{free_port()}/v1", "autostart": True}})
    with Running(variables) as daemon:

        def code() -> str:
            reason = endpoints(daemon)["vllm"].reason
            return reason.code if reason is not None else ""

        wait_until(lambda: code() == "start.no_model", lambda: f"{code()} {daemon.log[-2000:]}")
