"""Runs the REST application inside the node's own event loop."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from trio import TaskStatus

from dms.api.bridge import Bridge
from dms.api.errors import RESTAddressInUse
from dms.api.routes import create_app

GRACE_S = 1.0
BACKLOG = 128


def bind(address: str, port: int) -> socket.socket:
    """Take the address before anything else starts, so that a conflict is found at once.

    :raises RESTAddressInUse: somebody has it, or it is not ours.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise RESTAddressInUse(f"cannot listen on {address}:{port} for the REST server: {exc.strerror}") from None
    listener.setblocking(False)
    return listener


async def run_server(
    bridge: Bridge,
    listener: socket.socket,
    metrics: Callable[[], bytes] = bytes,
    *,
    task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; the listener is closed then."""
    config = Config()
    config.bind = [f"fd://{os.dup(listener.fileno())}"]  # a copy: the server closes what it is given
    config.accesslog = None
    config.errorlog = None
    config.graceful_timeout = GRACE_S
    config.include_server_header = False
    stopping = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_serve, create_app(bridge, metrics), config, stopping)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                stopping.set()
    finally:
        listener.close()


async def _serve(app: object, config: Config, stopping: trio.Event, task_status: TaskStatus[None]) -> None:
    # shielded: the server ends by its trigger, within its grace; cancelled from outside, it would raise errors instead
    with trio.CancelScope(shield=True):
        await serve(app, config, shutdown_trigger=stopping.wait, mode="asgi", task_status=_Ready(task_status))  # type: ignore[arg-type]


class _Ready:
    """Passes on that the server listens, without the list of addresses that it reports."""

    def __init__(self, task_status: TaskStatus[None]) -> None:
        self._task_status = task_status

    def started(self, _addresses: object = None) -> None:
        self._task_status.started()
