"""What systemd wants to know of a service: that it is ready, what it does, that it still turns (``sd_notify(3)``).

Datagrams of ``NAME=value`` lines to a socket whose address is in the environment. Without one everything here does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

import trio

from dms.observe import get_logger

SOCKET_VARIABLE, WATCHDOG_VARIABLE, WATCHDOG_PID_VARIABLE = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
SIGNS_PER_TIMEOUT = 2
"""How often a sign of life is given in the time after which its absence counts as death."""
US_PER_S = 10**6

log = get_logger(__name__)


class ServiceManager:
    """The other end of a notification socket, if there is one."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        """``address``: a path, or ``@`` and an abstract name; empty: nobody listens. ``watchdog_s`` 0: nobody watches."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = watchdog_s

    @classmethod
    def of_environment(cls, environ: MutableMapping[str, str]) -> ServiceManager:
        """As the environment says. The variables are taken out of it: they are not for the children of this process."""
        address = environ.pop(SOCKET_VARIABLE, "")
        timeout_us, pid = environ.pop(WATCHDOG_VARIABLE, ""), environ.pop(WATCHDOG_PID_VARIABLE, "")
        is_for_us = not pid or pid == str(os.getpid())
        watchdog_s = int(timeout_us) / US_PER_S if timeout_us.isdecimal() and is_for_us else 0.0
        return cls(address if address.startswith(("/", "@")) else "", watchdog_s)

    def ready(self, status: str) -> None:
        """It answers."""
        self._tell("READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}")

    def stopping(self) -> None:
        """It ends in order."""
        self._tell("STOPPING=1", "STATUS=stopping")

    async def show_life(self) -> None:
        """Give signs of life for ever; they come out of the loop that does the work, so they end when it hangs."""
        if not self._address or not self._watchdog_s:
            return
        while True:
            self._tell("WATCHDOG=1")
            await trio.sleep(self._watchdog_s / SIGNS_PER_TIMEOUT)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        text = "\n".join(line.replace("\n", " ") for line in lines)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.connect(self._address)
                sock.send(text.encode())
        except OSError as exc:
            log.warning("service_manager_silent", error=exc.strerror or str(exc), address=self._address)
