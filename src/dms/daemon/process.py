"""Runs the service until SIGINT or SIGTERM, and ends it in order and in time.

The first signal stops in order: no new work is taken, what was acknowledged is on disk, workloads go on running and are
adopted by the next start. A second one stops at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio
from trio import TaskStatus

from dms.app import Ready, serve
from dms.config import Settings
from dms.daemon.errors import StartTookTooLong, StopTookTooLong
from dms.daemon.pid_file import pid_file
from dms.daemon.service_manager import ServiceManager
from dms.observe import get_logger

START_DEADLINE_S = 120.0
STOP_DEADLINE_S = 45.0
LAST_RESORT_S = 10
"""Both are below the times after which ``packaging/nunet.service`` lets systemd kill the process."""

log = get_logger(__name__)

Serve = Callable[..., Awaitable[None]]
"""``serve(stop, task_status=…)``: runs until ``stop`` is set and tells :class:`~dms.app.Ready` once it answers."""


def run(settings: Settings, context: str, passphrase: str, *, pid_path: Path | None = None) -> None:
    """Run the service until SIGINT or SIGTERM; then stop it in order and return.

    :raises DMSError: it cannot start, with the reason, or did not end in time.
    """

    async def service(stop: trio.Event, *, task_status: TaskStatus[Ready]) -> None:
        await serve(settings, context, passphrase, stop, task_status=task_status)

    manager = ServiceManager.of_environment(os.environ)
    try:
        with pid_file(pid_path):
            trio.run(run_until_signal, service, manager, partial(signal.alarm, LAST_RESORT_S))
    except BaseExceptionGroup as group:
        raise only_error(group) from None
    finally:
        signal.alarm(0)


async def run_until_signal(service: Serve, manager: ServiceManager, last_resort: Callable[[], object]) -> None:
    """The life of the process: start, tell, wait for a signal, stop; each with its deadline.

    ``last_resort`` is called when the deadline of the end has passed: what does not even let itself be cancelled must not
    keep the process alive.

    :raises StartTookTooLong: it did not answer within :data:`START_DEADLINE_S`.
    :raises StopTookTooLong: it had to be ended :data:`STOP_DEADLINE_S` after the signal.
    """
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, stop)

        async def live(*, task_status: TaskStatus[Ready]) -> None:
            await service(stop, task_status=task_status)
            nursery.cancel_scope.cancel()

        with trio.move_on_after(START_DEADLINE_S) as start:
            ready = await nursery.start(live)
        if start.cancelled_caught:
            raise StartTookTooLong(f"the node did not start within {START_DEADLINE_S:g} s")
        manager.ready(f"peer {ready.peer_id}, REST on port {ready.rest_port}")
        nursery.start_soon(manager.show_life)
        await stop.wait()
        manager.stopping()
        await trio.sleep(STOP_DEADLINE_S)
        last_resort()
        raise StopTookTooLong(f"the node did not stop within {STOP_DEADLINE_S:g} s and was ended")


async def _stop_on_signal(stop: trio.Event) -> None:
    """The first signal stops in order, a second at once."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            if stop.is_set():
                raise KeyboardInterrupt
            stop.set()


def only_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error behind nested groups; the group where there are several."""
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner
