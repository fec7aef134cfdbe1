"""Doing something in another network namespace, such as that of a container.

A namespace belongs to a thread. So the work is done in a thread that is made for it and ends with it: one that came
back into a pool with the wrong namespace would be a trap for whatever runs in it next.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dms.subnet.errors import KernelRefused, NamespaceGone

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run_inside(namespace: Path | None, work: Callable[[], T]) -> T:
    """Do it in the namespace behind this path (``/proc/<pid>/ns/net``, ``/run/netns/<name>``); ``None``: where we are.

    Blocks; what is opened inside, sockets and devices, stays in the namespace. Raises what the work raises.

    :raises NamespaceGone: there is none.
    :raises KernelRefused: we may not enter it.
    """
    if namespace is None:
        return work()
    try:
        fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NamespaceGone(f"there is no network namespace at {namespace}: {error.strerror}") from None
    results: list[T] = []
    failures: list[BaseException] = []

    def inside() -> None:
        try:
            if _libc.setns(fd, _CLONE_NEWNET):
                reason = os.strerror(ctypes.get_errno())
                raise KernelRefused(f"the network namespace at {namespace} cannot be entered: {reason}")
            results.append(work())
        except BaseException as error:  # noqa: BLE001  it is raised where it belongs, below
            failures.append(error)

    try:
        thread = threading.Thread(target=inside, name="network namespace", daemon=True)
        thread.start()
        thread.join()
    finally:
        os.close(fd)
    if failures:
        raise failures[0]
    return results[0]
