"""``nunet ssh``: the ``ssh`` of this machine, over ``nunet port-forward --stdio``."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from dms.cli.options import Context, DeploymentID
from dms.types.errors import NotFound

SSH_PORT = 22
KNOWN_HOSTS = "ssh"
GLOBAL_OPTIONS = ("config", "network", "node", "rest_addr", "rest_port", "user_dir")


def ssh(
    ctx: typer.Context,
    identifier: DeploymentID,
    allocation: Annotated[str, typer.Argument(help="Its name or NODE.NAME.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGUMENT...]", help="For ssh: its options, and a command.")
    ] = None,
    user: Annotated[str, typer.Option("-l", "--login", metavar="USER", help="Who to be there.")] = "",
    port: Annotated[int, typer.Option("-p", "--port", min=1, max=65535, help="Where sshd listens.")] = SSH_PORT,
    context: Context = None,
) -> None:
    """Log in to an allocation in which sshd runs, whatever machine it is on; ends as ssh does.

    Needs ssh here. The connection leads to the right machine in any case; the key that sshd shows there is remembered for each
    execution, so one that changes while it runs is refused, and one of its successor is not. Without sshd: nunet exec.

    Examples:
      nunet ssh 3f2a box -l root
      nunet ssh 3f2a box -l root -- uptime
      nunet ssh 3f2a box -- -L 5432:localhost:5432 -N
    """
    from dms.cli.port_forward import TICKET_VARIABLE
    from dms.cli.session import Session
    from dms.cli.tunnel import Tunnels

    program = shutil.which("ssh")
    if program is None:
        raise NotFound("there is no ssh on this machine", hint="apt-get install openssh-client")
    session = Session.of(ctx)
    told = Tunnels(session.client(context), identifier, allocation, (port,)).ask()
    alias = host_key_alias(told.allocation, told.peer, told.execution)
    known = session.user_dir / KNOWN_HOSTS / told.deployment
    known.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    proxy = [*own_command(ctx), "port-forward", "--stdio"]
    proxy += ["-c", context] if context else []
    command = ssh_command(program, [*proxy, told.deployment, told.allocation, str(port)], alias, known, user)
    os.environ[TICKET_VARIABLE] = told.ticket  # what it starts is ours, and needs no passphrase
    os.execv(program, [*command, told.allocation, *(arguments or [])])  # noqa: S606  there is no shell in between


def ssh_command(program: str, proxy: list[str], alias: str, known: Path, user: str) -> list[str]:
    """The command line up to the name of the host. Pure."""
    options = {
        "ProxyCommand": shlex.join(proxy).replace("%", "%%"),  # ssh puts exec before it
        "HostKeyAlias": alias,
        "UserKnownHostsFile": f'"{known}"'.replace("%", "%%"),
        "StrictHostKeyChecking": "accept-new",
        "CheckHostIP": "no",
    }
    command = [program, *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    return [*command, "-l", user] if user else command


def host_key_alias(allocation: str, peer: str, execution: int) -> str:
    """Under what name the key of sshd is remembered: another machine or execution may have another one."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", f"{allocation}.{peer[-12:]}.{execution}").lower()


def own_command(ctx: typer.Context) -> list[str]:
    """How to run this program again with the same global options."""
    given = ctx.find_root().params
    words = [sys.executable, "-m", "dms.cli.main"]
    for name in GLOBAL_OPTIONS:
        value = given.get(name)
        if value not in (None, "", False):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words
