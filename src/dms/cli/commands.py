"""The table of commands: a name, a line of help, and where the code lies. Importing this imports nothing else.

``nunet --help`` and completion read only this table; the module of a command is imported when the command is called or
its own help is asked for.
"""

from __future__ import annotations

from typing import NamedTuple

PROGRAM = "nunet"
COMPLETE_VARIABLE = "_NUNET_COMPLETE"


class Command(NamedTuple):
    """One command; ``target`` is ``module:attribute``, a typer app or a function."""

    name: str
    help: str
    target: str
    section: str = ""
    is_hidden: bool = False


_WORK = "Work"
_MACHINE = "This machine"
_NETWORK = "Networks"
_IDENTITY = "Identity"
_MORE = "More"

COMMANDS: tuple[Command, ...] = (
    Command("deploy", "Deploy an ensemble and wait until it runs", "dms.cli.deploy:deploy", _WORK),
    Command("plan", "Show what would become of an ensemble", "dms.cli.plan:plan", _WORK),
    Command("validate", "Check an ensemble file", "dms.cli.validate:validate", _WORK),
    Command("ensemble", "Begin an ensemble, look at what it says", "dms.cli.ensemble:app", _WORK),
    Command(
        "translate", "Turn Compose, Kubernetes or Nomad files into ensembles", "dms.cli.translate:translate", _WORK
    ),
    Command("ps", "List the deployments that go on", "dms.cli.ps:ps", _WORK),
    Command("get", "List deployments, allocations or resources", "dms.cli.get:app", _WORK),
    Command("status", "Show how the node is, or a deployment", "dms.cli.status:status", _WORK),
    Command("info", "Show all that is known of a deployment", "dms.cli.info:info", _WORK),
    Command("subnet", "Show the private network of a deployment", "dms.cli.subnet:app", _WORK),
    Command("manifest", "Print what was made of an ensemble", "dms.cli.manifest:manifest", _WORK),
    Command("top", "Show what allocations use", "dms.cli.top:top", _WORK),
    Command("logs", "Print what allocations wrote", "dms.cli.logs:logs", _WORK),
    Command("exec", "Run a command in an allocation", "dms.cli.exec:exec_", _WORK),
    Command("cp", "Copy files into an allocation, or out of it", "dms.cli.cp:cp", _WORK),
    Command("ssh", "Log in to an allocation in which sshd runs", "dms.cli.ssh:ssh", _WORK),
    Command("port-forward", "Reach ports of an allocation here", "dms.cli.port_forward:port_forward", _WORK),
    Command("file", "Send files from one node's volume to another's", "dms.cli.file:app", _WORK),
    Command("events", "Tell what happened to a deployment, or to the node", "dms.cli.events:events", _WORK),
    Command("restart", "End allocations and run them again", "dms.cli.restart:restart", _WORK),
    Command("update", "Have a deployment become another version", "dms.cli.update:update", _WORK),
    Command("scale", "Change how many members groups have", "dms.cli.update:scale", _WORK),
    Command("versions", "List the versions of a deployment", "dms.cli.versions:versions", _WORK),
    Command("revert", "Return to an earlier version", "dms.cli.update:revert", _WORK),
    Command("why", "Tell why a deployment waits or failed", "dms.cli.why:why", _WORK),
    Command("schedule", "List, pause, resume and delete schedules", "dms.cli.schedule:app", _WORK),
    Command("shutdown", "End a deployment", "dms.cli.shutdown:shutdown", _WORK),
    Command("delete", "Forget deployments that have ended", "dms.cli.delete:delete", _WORK),
    Command("prune", "Forget what ended long ago", "dms.cli.prune:prune", _WORK),
    Command("run", "Run the node", "dms.cli.run:run", _MACHINE),
    Command("onboard", "Offer a part of this machine to the network", "dms.cli.onboarding:onboard", _MACHINE),
    Command("offboard", "Withdraw this machine from the network", "dms.cli.onboarding:offboard", _MACHINE),
    Command("hardware", "Show and measure this machine", "dms.cli.hardware:app", _MACHINE),
    Command("plugin", "List the plugins of this machine", "dms.cli.plugin:app", _MACHINE),
    Command("gpu", "List and test the GPUs of this machine", "dms.cli.gpu:app", _MACHINE),
    Command("volume", "List, make, lock, encrypt and remove volumes", "dms.cli.volume:app", _MACHINE),
    Command("tap", "Make, remove and list TAP devices for microVMs", "dms.cli.tap:app", _MACHINE),
    Command("doctor", "Find out what stands in the way", "dms.cli.doctor:app", _MACHINE),
    Command("monitor", "Show the log of the node as it is written", "dms.cli.monitor:monitor", _MACHINE),
    Command("logger", "Show and change what the node logs, and where", "dms.cli.logger:logger", _MACHINE),
    Command("debug", "Pack what helps to find a defect, without secrets", "dms.cli.debug:debug", _MACHINE),
    Command("peers", "List the peers that the node is connected to or knows", "dms.cli.peers:app", _MACHINE),
    Command("db", "Check, back up and restore the database", "dms.cli.db:app", _MACHINE),
    Command("config", "Show and change the configuration", "dms.cli.config:app", _MACHINE),
    Command("devnet", "Run a whole network on this machine", "dms.cli.devnet:app", _NETWORK),
    Command("network", "Make what a network of your own needs", "dms.cli.network:app", _NETWORK),
    Command("key", "Make keys and show their DIDs", "dms.cli.key:app", _IDENTITY),
    Command("cap", "Grant, delegate and anchor capabilities", "dms.cli.cap:app", _IDENTITY),
    Command("actor", "Send messages to actors, call behaviours", "dms.cli.actor:app", _IDENTITY),
    Command("completion", "Print the completion script of a shell", "dms.cli.completion:completion", _MORE),
    Command("version", "Show the version", "dms.cli.version:version", _MORE),
    Command("autocomplete", "As completion", "dms.cli.completion:completion", _MORE, is_hidden=True),
)

OPTIONS: tuple[tuple[str, str], ...] = (
    ("--config FILE", "Configuration file, instead of the search for one"),
    ("--network NAME", "Address a local network, such as devnet [env: DMS_NETWORK]"),
    ("--node N|NAME", "Which node of that network [env: DMS_NODE]"),
    ("--rest-addr ADDR", "Address of the node's REST server"),
    ("--rest-port PORT", "Its port"),
    ("--user-dir DIR", "Where keys and capability contexts lie"),
    ("--debug", "Show tracebacks, log more"),
    ("--version", "Show the version"),
    ("-h, --help", "Show this help; nunet COMMAND --help shows more"),
)

EXIT_CODES = "0 done, 1 failed, 2 bad input, 3 not authorized, 4 not found, 5 wrong state, 6 no answer, 130 interrupted"


def find(name: str) -> Command | None:
    """The command of that name."""
    return next((command for command in COMMANDS if command.name == name), None)


def root_help() -> str:
    """The help of ``nunet`` itself."""
    width = max(len(text) for text in [c.name for c in COMMANDS] + [o for o, _ in OPTIONS]) + 2
    sections: dict[str, list[str]] = {}
    for command in COMMANDS:
        if not command.is_hidden:
            sections.setdefault(command.section, []).append(f"  {command.name:<{width}}{command.help}")
    lines = [
        f"Usage: {PROGRAM} [OPTIONS] COMMAND [ARGS]...",
        "",
        "Deploys work on other people's machines and runs theirs on yours.",
    ]
    for section, entries in sections.items():
        lines += ["", f"{section}:", *entries]
    lines += ["", "Options:", *(f"  {option:<{width}}{text}" for option, text in OPTIONS)]
    lines += [
        "",
        "Examples:",
        "  nunet devnet up",
        "  nunet --network devnet deploy -f examples/wordcount.yaml",
        "  nunet --network devnet get deployments",
        "",
        f"Exit codes: {EXIT_CODES}.",
    ]
    return "\n".join(lines)
