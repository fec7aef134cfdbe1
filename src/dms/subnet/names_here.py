"""Names of private networks on a machine that takes part itself, by systemd-resolved, which knows servers by device.

Without it nothing is changed: ``/etc/resolv.conf`` is the machine's, and a daemon that is killed could not take back what
it wrote there. ``nunet subnet resolve`` tells addresses, too.
"""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

from dms.observe.log import get_logger
from dms.subnet.dns import DOMAIN

log = get_logger(__name__)

RESOLVED = Path("/run/systemd/resolve")
"""There while it runs."""
_TOOL_S = 5.0


def offer_names(device: str, server: IPv4Address) -> None:
    """Blocks for tens of milliseconds. Whether it works is in the log: names are no condition of anything here."""
    program = shutil.which("resolvectl", path="/usr/bin:/bin")
    if program is None or not RESOLVED.is_dir():
        log.info("subnet_names_not_offered", device=device, reason="systemd-resolved does not run here")
        return
    for command in commands(program, device, server):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TOOL_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.info("subnet_names_not_offered", device=device, reason=str(error))
            return
        if done.returncode:
            log.info("subnet_names_not_offered", device=device, reason=done.stderr.strip()[:300])
            return


def commands(program: str, device: str, server: IPv4Address) -> list[list[str]]:
    """The server for the domain, and for nothing else."""
    return [
        [program, "dns", device, str(server)],
        [program, "domain", device, f"~{DOMAIN}"],
        [program, "default-route", device, "false"],
    ]
