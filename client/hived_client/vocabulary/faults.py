"""Everything that can be wrong, as data: a stable code, one sentence, and the command that mends it.

A row of the catalogue is a code, a sentence and hints by system. The sentence and the hints are filled from
the fields that the finder of the fault knows. A hint that needs a field which is not known, or which a
program would take for an option, gives way to the row's next. A code is never reused for another meaning.
"""

from __future__ import annotations

import functools
import sys

import msgspec

Value = str | int | float | bool | None


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Say what is wrong: ``message`` is one sentence, ``hint`` a command or a path for this system."""

    code: str
    message: str
    hint: str = ""
    retryable: bool = False
    fields: dict[str, Value] = {}


class Row(msgspec.Struct, frozen=True):
    """One kind of fault. ``hints`` are tried in order; the first whose fields are all known is used."""

    message: str
    hints: tuple[str, ...] = ()
    retryable: bool = False
    darwin: tuple[str, ...] = ()
    wsl: tuple[str, ...] = ()


COMMANDS = frozenset(
    (
        *("start", "restart", "load", "pull", "queue", "memory", "tools", "upgrade", "placement", "give"),
        *("setting", "mend", "install", "install_darwin", "usage"),
    )
)
"""Fields that are commands already; every other one is a word in a command."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-~")

SETTING = "set providers.{endpoint}.api_base in {configuration}"
"""What helps where no command does: a line of the configuration, always in these words."""

LOG = ("hived logs {server}", "less {log}")
"""The log of a server that hived started: hived shows it by the server's name, where that is known."""

START_LLAMACPP = "hived start llamacpp --model FILE.gguf"

CATALOGUE: dict[str, Row] = {
    # The question
    "model.unnamed": Row(
        "A model is written PROVIDER/NAME, and {model!r} is not.", ("hived resolve PROVIDER/NAME",)
    ),
    "provider.unknown": Row(
        "No provider and no endpoint is called {prefix!r}; known are {known}.",
        ("set providers.{prefix}.api_base in {configuration}",),
    ),
    "provider.nowhere": Row(
        "No {title} server is known.",
        ("{start}", "set providers.NAME.api_base in {configuration}"),
    ),
    "provider.plugin_broken": Row(
        "The plug-in {name!r} of {distribution} cannot be used: {why}.", ("pip show {distribution}",)
    ),
    "question.invalid": Row(
        "The question cannot be asked: {why}.", ("hived resolve PROVIDER/NAME --context 4096",)
    ),
    "model.unknown": Row("{endpoint} has no model {model!r}.", ("{pull}", "hived status")),
    "model.elsewhere": Row(
        "{endpoint} has no model {model!r}, but {other} serves it.", ("hived resolve {first}", "{pull}")
    ),
    "model.server_down": Row(
        "{model!r} is there, but {title} is not running at {url}.", ("{start}", "{setting}", "hived status")
    ),
    "model.ambiguous": Row(
        "{model!r} is served by {endpoints} alike; name the endpoint.", ("hived resolve {first}",)
    ),
    "model.failed": Row("{endpoint} could not load {model!r}.", ("hived status",)),
    "model.incomplete": Row(
        "{model!r} is not complete on disk: {missing} of its {parts} parts are missing.",
        ("ollama pull {model}",),
    ),
    "model.loading": Row("{endpoint} is loading {model!r}.", ("hived events",), retryable=True),
    "model.downloading": Row("{endpoint} is still downloading {model!r}.", ("hived events",), retryable=True),
    "model.sleeping": Row("{model!r} sleeps; the first call waits until it is loaded again."),
    "model.unloaded": Row("{model!r} is not loaded; the first call waits until it is."),
    "model.unverified": Row(
        "Nobody could say whether {endpoint} has the model {model!r}.",
        ("hived resolve {endpoint}/{model} --fresh",),
    ),
    "model.remote": Row(
        "{model!r} does not run on this device ({locality}), and the question is private.",
        ("hived status",),
    ),
    "model.unwatched": Row(
        "{why}, so nobody knows where {model!r} runs now, and the question is private.",
        ("{mend}", "hived status"),
    ),
    "model.maybe_linked": Row(
        "LM Studio may run {model!r} on a linked device: {why}.",
        ("ls -ld {folder}", "{pull}", "lms link disable"),
    ),
    "model.lacks": Row("{model!r} does not offer {missing}.", ("{tools}", "hived status")),
    "model.unsure": Row("It is not known whether {model!r} offers {missing}."),
    "model.tools_unsure": Row(
        "It is not known whether {title} was started so that {model!r} can call tools.", ("{tools}",)
    ),
    "model.partly_on_cpu": Row(
        "{share} of {model!r} runs on the CPU, which makes it slow.", ("{placement}", "hived status")
    ),
    "context.exceeds_loaded": Row(
        "{asked} tokens of context were asked for, and {model!r} is loaded with {loaded}.",
        ("{restart}", "{load}"),
    ),
    "context.exceeds_native": Row(
        "{asked} tokens of context were asked for, and {model!r} can hold {native} at most.",
        ("hived resolve {endpoint}/{model} --context {native}", "hived status"),
    ),
    "context.unsure": Row(
        "It is not known whether {model!r} has a context of the {asked} tokens that were asked for.",
        ("{load}", "hived status"),
    ),
    "context.configured_exceeds": Row(
        "{origin} of the configuration fills {configured} tokens, and {model!r} has a context of {loaded}.",
        ("{restart}", "{load}", "hived resolve {name} --context {asked}", "hived status"),
    ),
    # The server
    "server.down": Row(
        "{title} is not running at {url}.",
        ("{start}", "{setting}", "hived status"),
    ),
    "server.owned_down": Row(
        "{title} is not running at {url}; {owner} starts it.",
        ("{start}", "hived status"),
    ),
    "server.not_installed": Row(
        "{title} is not running at {url}, and it is not installed on this device.",
        ("{install}", "hived status"),
        darwin=("{install_darwin}",),
    ),
    "server.maybe_on_host": Row(
        "{title} is neither running at {url} nor installed in {inside}; on {around} it has another address.",
        ("{mend}", "hived status"),
    ),
    "server.other_family": Row(
        "Nothing listens at {expected}, but {other} answers.", ("{mend}", "hived status")
    ),
    "server.forwarded": Row(
        "{program} listens at {url} and hands connections on, so nobody knows where {title} runs.",
        ("ss -ltnp sport = :{port}",),
        darwin=("lsof -nP -iTCP:{port} -sTCP:LISTEN",),
    ),
    "server.closed": Row(
        "{title} is open, but its server is not started at {url}.",
        ("lms server start --port {port}", "{start}"),
    ),
    "server.ended": Row(
        "The {title} that hived started at {url} is not running any more{why}.",
        ("{start}", "hived status"),
    ),
    "server.restarting": Row(
        "The {title} that hived started at {url} ended{why}; it is started again ({count} of {most}).",
        LOG,
        retryable=True,
    ),
    "server.gave_up": Row(
        "The {title} at {url} ended again and again{why}; hived started it {count} times and gave up.",
        (*LOG, "hived status"),
    ),
    "server.unreachable": Row("{url} cannot be reached: {why}.", ("{setting}", SETTING)),
    "server.dns": Row(
        "The name {host!r} of {url} cannot be resolved.",
        ("getent hosts {host}",),
        darwin=("dscacheutil -q host -a name {host}",),
    ),
    "server.silent": Row(
        "{title} at {url} accepts connections and does not answer.", ("{restart}", "hived doctor")
    ),
    "server.starting": Row("{title} at {url} is starting{stage}.", ("hived events",), retryable=True),
    "server.loading": Row("{title} at {url} is loading its model.", ("hived events",), retryable=True),
    "server.failed": Row("{title} at {url} failed: {why}.", ("{restart}", "hived status")),
    "server.unauthorised": Row(
        "{title} at {url} wants a key, and {key_ref} holds none that it takes.",
        ("export {variable}=…", "set providers.{endpoint}.api_key_env_var in {configuration}"),
    ),
    "server.key_unset": Row(
        "{title} at {url} wants a key, and {variable} is not set where hived runs.",
        ("{give}", "export {variable}=… && kill {pid} && sleep 1 && hived serve", "export {variable}=…"),
    ),
    "server.key_withheld": Row(
        "{title} at {url} wants a key, and {variable} is not sent there: the way is not encrypted, and the "
        "address does not tell that it stays in this network.",
        ("{setting}", SETTING),
    ),
    "key.missing": Row(
        "{variable}, which names the key of {endpoint}, is not set here.", ("export {variable}=…",)
    ),
    "server.wrong": Row("{url} answers, but it is not {title}{seems}.", ("{setting}", SETTING)),
    "server.not_seen_yet": Row(
        "{title} at {url} has not been looked at yet.", ("hived events",), retryable=True
    ),
    "server.unwatched": Row(
        "hived does not watch {title} yet, so nothing at {url} was checked.", ("hived status",)
    ),
    "server.other_dialect": Row(
        "{url} is not {title}{seems}; it is used because the configuration says so.",
        ("set providers.{endpoint}.like in {configuration}",),
    ),
    "server.malformed": Row(
        "{title} at {url} answered something that cannot be used: {why}.", ("{restart}", "curl -i {url}")
    ),
    "server.redirects": Row(
        "{url} answers with a redirect, which is never followed on the way to a local model.",
        ("curl -i {url}",),
    ),
    "server.vulnerable": Row(
        "{title} {version} at {url} has a security hole ({cves}), which lets whoever reaches it {allows}.",
        ("{upgrade}", "hived status"),
    ),
    # The caller's environment
    "proxy.hijacks": Row(
        "{variable} sends calls to {url} through the proxy {proxy}, and not to the server.",
        ("export {no_proxy}={hosts}",),
    ),
    # A call
    "call.queue_full": Row(
        "{title} at {url} has as many requests waiting as it takes: {why}.",
        ("{queue}", "hived status"),
        retryable=True,
    ),
    "call.no_memory": Row(
        "{title} at {url} has not enough memory for {model!r}: {why}.", ("{memory}", "hived status")
    ),
    "call.no_tool_parser": Row(
        "{title} at {url} was started without a tool parser, so {model!r} cannot call tools.",
        ("vllm serve {model} --enable-auto-tool-choice --tool-call-parser hermes",),
    ),
    "call.no_jinja": Row(
        "{title} at {url} was started without its template engine, so {model!r} cannot call tools.",
        ("llama-server --model FILE.gguf --jinja",),
    ),
    "call.context_exceeded": Row(
        "The prompt does not fit into the context of {model!r}: {why}.",
        ("{restart}", "{load}", "hived status"),
    ),
    "call.truncated": Row(
        "{title} read {counted} of some {sent} tokens of the prompt: the context of {model!r} is {loaded}.",
        ("hived resolve {endpoint}/{model} --context {wanted}",),
    ),
    "call.cut_short": Row(
        "The answer of {model!r} was cut short: {why}.",
        ("hived resolve {endpoint}/{model} --context {wanted}", "hived status"),
    ),
    "call.broken_off": Row(
        "{title} at {url} broke off in the middle of its answer: {why}.", ("hived status",), retryable=True
    ),
    "call.rejected": Row("{title} at {url} rejected the call: {why}.", ("hived status",)),
    "call.failed": Row("{title} at {url} failed at the call: {why}.", ("hived status",)),
    "call.no_litellm": Row(
        "LiteLLM, which is to call {model!r}, cannot be used: {why}.", ("pip install 'litellm>=1.81' mcp",)
    ),
    "call.astray": Row(
        "LiteLLM wanted to take the call of the local model {model!r} to {other}, and was kept from it.",
        ("env | grep -iE 'litellm|api_base|base_url'",),
    ),
    "cloud.unauthorised": Row(
        "The provider of {model!r} wants a key, and {variable} is not set.", ("export {variable}=…",)
    ),
    "cloud.failed": Row(
        "The call of {model!r} failed: {why}.", ("env | grep -iE 'litellm|api_base|base_url'",)
    ),
    # An agent
    "agent.missing": Row("There is no agent in {path}.", ("ls {folder}", "ls {path}")),
    "agent.unreadable": Row("The agent's {path} cannot be used: {why}.", ("less {path}",)),
    "agent.needs_hive": Row(
        "{path} needs Hive: {what} does not run here.", ("git clone https://github.com/aden-hive/hive",)
    ),
    "agent.no_model": Row("No model is named: neither by the caller nor in {path}.", ("hived status",)),
    "agent.no_tool": Row(
        "The agent wants the tool {tool!r}, and {path} has none of that name.", ("less {path}",)
    ),
    "agent.no_output": Row("The step {node!r} ended without its outputs {missing}."),
    "agent.endless": Row("The step {node!r} came to no end in {turns} turns."),
    # The plug-in
    "plugin.no_hive": Row(
        "No Hive is found: there is neither a command hive on PATH nor a .venv in this folder.",
        ("hived plugin enable hive --python PATH",),
    ),
    "plugin.no_python": Row(
        "{path} is not a Python that can be used: {why}.", ("hived plugin enable hive --python PATH",)
    ),
    "plugin.managed": Row(
        "{path} belongs to the system's own packages, and nothing else may be installed there.",
        ("python3 -m venv .venv",),
    ),
    "plugin.unwritable": Row("Nothing can be written to {path}: {why}.", ("ls -ld {path}",)),
    "plugin.no_pip": Row("hived's client cannot be installed into {path}, which has no pip.", ("{install}",)),
    "plugin.install_failed": Row("hived's client cannot be used by {path}: {why}.", ("{install}",)),
    # Starting
    "start.no_file": Row("There is no model file {path}.", ("ls -l {directory}",)),
    "start.not_gguf": Row("{path} is not a GGUF file.", ("hived start llamacpp --model FILE.gguf",)),
    "start.not_installed": Row(
        "{title} is not installed{why}.", ("{install}", "hived status"), darwin=("{install_darwin}",)
    ),
    "start.owned": Row("{title} at {url} belongs to {owner}, so hived does not start it.", ("{start}",)),
    "start.elsewhere": Row(
        "{title} is to be at {url}, and hived starts servers on this device's loopback only, by http.",
        (SETTING, "hived status"),
    ),
    "start.no_model": Row("{title} is started with a model.", ("{start}",)),
    "start.not_taken": Row("{option} means nothing to {title} when it is started.", ("{start}",)),
    "start.unit_taken": Row(
        "A unit called {unit} is there already, and hived does not know of it.",
        ("systemctl --user stop {unit}",),
    ),
    "start.manager": Row("The user's systemd did not start {title}: {why}.", ("systemctl --user status",)),
    "start.ended": Row("{title} ended while it started{why}.", LOG),
    "start.no_memory": Row(
        "There was not enough memory to load the model of {title}{why}.",
        ("{restart}", *LOG),
    ),
    "start.context": Row(
        "{title} cannot give {model} that much context{why}.",
        ("{restart}", *LOG),
    ),
    "start.library": Row(
        "{title} lacks a library on this machine{why}.",
        ("{install}", "ldd {program}"),
        darwin=("{install_darwin}", "{install}", "otool -L {program}"),
    ),
    "start.driver": Row("{title} cannot use the graphics card of this machine{why}.", ("nvidia-smi",)),
    "start.architecture": Row(
        "{title} of this version cannot run the kind of model that {model} is{why}.",
        ("{upgrade}", *LOG),
    ),
    "start.option": Row(
        "{title} does not take what it was started with{why}.",
        ("{usage}", *LOG),
    ),
    "start.gated": Row("{title} may not download {model}{why}.", ("hf auth login",)),
    "start.unknown_model": Row("{title} finds no model {model}{why}.", ("hf download {model}",)),
    "start.stopped": Row("{title} was stopped while it started.", ("{restart}",)),
    "start.timeout": Row("{title} did not answer within {seconds:g} s of its start.", LOG),
    "start.port_taken": Row(
        "Port {port} is taken{by}.",
        ("{restart}", "ss -ltnp sport = :{port}"),
        darwin=("{restart}", "lsof -nP -iTCP:{port} -sTCP:LISTEN"),
    ),
    "start.port_refused": Row("Port {port} may not be opened by user {user}.", ("{restart}",)),
    "start.unsupported": Row("hived cannot start {provider!r}; it can start {known}.", (START_LLAMACPP,)),
    "stop.not_ours": Row(
        "{endpoint} was not started by hived, so hived does not stop it.",
        ("ss -ltnp sport = :{port}",),
        darwin=("lsof -nP -iTCP:{port} -sTCP:LISTEN",),
    ),
    "stop.which": Row("hived started {endpoints}; say which one to stop.", ("hived stop {first}",)),
    "stop.nothing": Row("hived has not started {provider}.", ("hived status",)),
    # The daemon
    "daemon.absent": Row("hived is not running, so this is the last that it knew.", ("hived serve",)),
    "daemon.not_running": Row("hived is not running.", ("hived serve",)),
    "daemon.unresponsive": Row("hived does not answer ({why}).", ("hived doctor",), retryable=True),
    "daemon.not_installed": Row(
        "hived is not installed for this Python ({python}).", ("{install}", "pip install PATH/TO/HIVED")
    ),
    "daemon.start_failed": Row("hived could not start: {why}.", ("hived serve",)),
    "daemon.already_running": Row("hived is already running (pid {pid}).", ("hived status",)),
    "state.taken": Row(
        "Another hived (pid {pid}) works with {path}, and has its runtime folder in {runtime}.",
        ("env HIVED_RUNTIME_DIR={runtime} hived status",),
    ),
    "daemon.other_version": Row(
        "The hived that runs is version {version}, and this program has version {ours}.",
        ("{upgrade}", "{restart}", "kill {pid} && sleep 1 && hived serve"),
    ),
    "facts.old": Row("The last look at {endpoint} is {age:.0f} s old.", ("hived status",)),
    "facts.none": Row(
        "hived does not watch {endpoint}; the address is a default and nothing was checked but that "
        "something listens there.",
        ("hived serve",),
    ),
    "logs.none": Row("There is no log of {name!r} here: {why}.", ("{mend}", "hived logs --list")),
    "logs.which": Row("hived has started {names}; say whose log.", ("hived logs {first}",)),
    "logs.unreadable": Row(
        "The log cannot be read from {path}: {why}.", ("{mend}", "journalctl --user -u hived -e")
    ),
    # The doors
    "protocol.unsupported": Row(
        "hived {version} speaks protocol {min} to {max}, and this client speaks {ours}.",
        ("{upgrade}", "pip install --upgrade PATH/TO/HIVED"),
    ),
    "protocol.broken": Row("The connection to hived broke: {why}.", ("hived status",), retryable=True),
    "method.unknown": Row("hived knows no method {method!r}.", ("pip install --upgrade PATH/TO/HIVED",)),
    "params.invalid": Row("The parameters of {method!r} are wrong: {why}.", ("{usage}", "hived --help")),
    "internal": Row(
        "hived made a mistake in {method!r}; the log has the trace.",
        ("hived logs",),
    ),
    "draining": Row("hived is shutting down.", ("hived serve",), retryable=True),
    "lagged": Row("The events came faster than they were read.", ("hived events",), retryable=True),
    "deadline": Row(
        "Time ran out: {what} took longer than {seconds:.2f} s.",
        ("{mend}", "hived resolve {endpoint}/{model} --fresh --timeout 10", "hived status"),
        retryable=True,
    ),
    "runtime.unsafe": Row("{path} cannot be trusted: {why}.", ("{mend}", "ls -ld {folder}", "ls -ld {path}")),
    "runtime.unwritable": Row("{path} cannot be written: {why}.", ("ls -ld {folder}", "ls -ld {path}")),
    "disk.full": Row(
        "There is no room left on the disk of {path}, so hived cannot write there.",
        ("df -h {path}",),
    ),
    "snapshot.foreign": Row("The snapshot {path} is not one of ours: {why}.", ("rm {path}",)),
    "snapshot.unknown": Row(
        "What hived says of {what} makes no sense to this client, which is of version {ours}.",
        ("hived doctor",),
    ),
    # The service
    "service.not_installed": Row("{name} is not installed.", ("hived service install",)),
    "service.no_systemd": Row(
        "There is no systemd here that could look after hived ({why}).",
        ("hived serve",),
        wsl=("sudo sh -c \"printf '[boot]\\nsystemd=true\\n' >> /etc/wsl.conf\" && wsl.exe --shutdown",),
    ),
    "service.no_session": Row(
        "User {user} has no systemd running (a login by su, cron, or ssh without linger).",
        ("loginctl enable-linger {user}",),
    ),
    "service.as_root": Row(
        "sudo made {user} root, who would get a service of root's own.", ("hived service install",)
    ),
    "service.no_launchd": Row("launchd has no session of user {user} ({why}).", ("hived serve",)),
    "service.no_interpreter": Row(
        "No Python can be written into a service: {why}.", ("python3 -m hived service install",)
    ),
    "service.unseen": Row(
        "systemd does not look into {folder}, where the service would be written.",
        ("systemctl --user import-environment XDG_CONFIG_HOME && systemctl --user daemon-reexec",),
    ),
    "service.refused": Row(
        "{supervisor} did not {what} {name}: {why}.",
        ("{mend}", "systemctl --user status {name}"),
        darwin=("{mend}", "launchctl print gui/$(id -u)/{name}"),
    ),
    "service.failed": Row("The service {name} did not start: {why}.", ("hived logs",)),
    "service.foreign_daemon": Row(
        "Another hived than the service's runs already (pid {pid}, {managed_by}).",
        ("kill {pid} && sleep 1 && hived service install",),
    ),
    "service.drift": Row("{path} is not as this version writes it: {why}.", ("hived service install",)),
    # The machine
    "model.on_cpu": Row(
        "{model!r} runs on the CPU only, although this machine has {gpu}.", ("{restart}", "hived status")
    ),
    "gpu.driver": Row(
        "The driver of {gpu} does not answer, so no model runs on it: {why}.",
        ("{mend}", "sudo reboot"),
        wsl=("wsl.exe --shutdown",),
    ),
    "gpu.permission": Row(
        "{path} may not be opened by user {user}, so no model runs on the card behind it.",
        ("sudo usermod -aG render,video {user}",),
    ),
    "gpu.driver_old": Row(
        "The driver of {gpu} is too old for {what}, which cannot use it: it has version {version}.",
        ("{mend}", "nvidia-smi"),
        wsl=("explorer.exe https://www.nvidia.com/drivers",),
    ),
    "gpu.not_passed": Row(
        "This container cannot see {gpu} of the machine around it, so no model runs on it.", ("{mend}",)
    ),
    "gpu.unseen": Row(
        "{model!r} is on a graphics card, as its server says, and hived found no card on this machine.",
        ("hived hardware --again",),
    ),
    # The configuration
    "configuration.broken": Row(
        "{path} is not valid JSON (line {line}, column {column}: {why}); the last good one is kept.",
        ("python3 -m json.tool {path}",),
    ),
    "configuration.invalid": Row("{path}: {where} {why}.", ("vi {path}",), darwin=("open -t {path}",)),
    "configuration.duplicate": Row(
        "{path}: {where} has the address of {first} ({url}) and is like another provider; it is passed over.",
        ("vi {path}",),
        darwin=("open -t {path}",),
    ),
    "configuration.too_many": Row(
        "{path} and the environment name {count} servers, and hived watches {most} at most: {where} and what "
        "comes after it are passed over.",
        ("vi {path}",),
        darwin=("open -t {path}",),
    ),
    "address.unspecified": Row(
        "{where} is {written}, which is an address to listen at and not one to call: hived calls {url}, "
        "other programs may fail, and a server that listens there is open to the network.",
        ("export {variable}={instead}", "vi {path}"),
    ),
    "configuration.unreadable": Row("{path} cannot be read: {why}.", ("ls -l {path}",)),
}


def fault(code: str, /, **fields: Value) -> Fault:
    """Fill a row of the catalogue. Raises KeyError for a code that is not in it."""
    row = CATALOGUE[code]
    known: dict[str, Value] = {name: value for name, value in fields.items() if value is not None}
    return Fault(
        code=code,
        message=row.message.format_map(_Fields(known)),
        hint=_hint(row, known),
        retryable=row.retryable,
        fields=fields,
    )


def configuration_file() -> str:
    """Name the configuration as its user does: ``~/.hive`` unless ``HIVE_HOME`` says otherwise."""
    import os

    home = os.environ.get("HIVE_HOME")
    return quoted(f"{home.rstrip('/')}/configuration.json") if home else "~/.hive/configuration.json"


def wrong_start(why: str) -> Fault:
    """Return the fault of a start that is asked for in a way that means nothing."""
    return fault("params.invalid", method="start", why=why, usage="hived start --help")


@functools.cache
def system() -> str:
    """Name this system as the catalogue does: ``linux``, ``darwin`` or ``wsl``. Looked at once."""
    if sys.platform == "darwin":
        return "darwin"
    import os

    from hived_client.vocabulary.wsl import wsl_of

    return "wsl" if wsl_of(os.uname().release, os.environ) else "linux"


class _Fields(dict[str, Value]):
    """Fields for a sentence: one that is not known reads as ``?`` rather than failing the report."""

    def __missing__(self, key: str) -> str:
        return _Unknown("?")


class _Words(dict[str, Value]):
    """Words for a hint: where the configuration is, is looked up for the few that name it."""

    def __missing__(self, key: str) -> str:
        if key == "configuration":
            return configuration_file()
        raise KeyError(key)


class _Unknown(str):
    """An unknown value, which no format specification can break."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return str(self)


def quoted(text: str) -> str:
    """Quote a text as one word of a shell: a server chooses its models' names, and hints are pasted."""
    is_plain = text and _PLAIN.issuperset(text) and not text.startswith("~")
    return text if is_plain else "'" + text.replace("'", "'\"'\"'") + "'"


def _word(value: Value) -> Value:
    return quoted(value) if isinstance(value, str) and value else value


def _hint(row: Row, fields: dict[str, Value]) -> str:
    words = _Words(
        {
            name: value if name in COMMANDS else _word(value)
            for name, value in fields.items()
            if name in COMMANDS or not (isinstance(value, str) and value.startswith("-"))
        }
    )
    own = {"darwin": row.darwin, "wsl": row.wsl}.get(system(), ())
    for hint in (*own, *row.hints):
        try:
            text = hint.format_map(words)
        except (KeyError, ValueError, TypeError):
            continue
        if text:
            return text
    return ""
