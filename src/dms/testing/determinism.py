"""A process whose every choice a seed makes: for runs on the virtual clock that can be repeated to the last message.

::

    with repeatable(seed=17):
        trio.run(main, clock=MockClock(autojump_threshold=0))

While it lasts trio takes tasks that can run at the same moment in an order that the seed determines, whatever asks
the system for random bytes (keys, nonces, ids) gets the seed's, and what would go to a worker thread runs in place:
a thread finishes when it likes. How long such work takes, and whether it happens at all, is the business of the
:class:`~dms.testing.disk.LossyDisk` of whoever asked for it.

What costs time and decides nothing is left out, for there to be more seeds: the loop asks neither the kernel nor a
real clock, Ed25519 signatures are :class:`~dms.testing.signatures.QuickSignatures`, and garbage is collected rarely.
Not to be nested, and never for secrets.
"""

# ruff: noqa: SLF001  trio has its own switch for this, and hides it

from __future__ import annotations

import gc
import os
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import nacl.bindings
import trio
from trio import _core as _trio_core
from trio import _path as _trio_path
from trio.testing import MockClock

from dms.testing.disk import current_disk, note_sync
from dms.testing.quick_loop import NoInput, jump, now_s
from dms.testing.signatures import QuickSignatures

T = TypeVar("T")

_GARBAGE = (200_000, 20, 20)
"""How many objects more there are before some are looked through: a fifth of the time goes by otherwise."""


@contextmanager
def repeatable(seed: object) -> Iterator[None]:
    """Everything inside depends on ``seed`` (anything with a stable ``repr``) and nothing else."""
    order = random.Random(f"order/{seed!r}")  # noqa: S311  a simulation, not a secret
    entropy = random.Random(f"entropy/{seed!r}")  # noqa: S311  as above
    run_module = _trio_core._run
    signatures = QuickSignatures(nacl.bindings.crypto_sign_open)
    places: tuple[tuple[Any, str, object], ...] = (
        (run_module, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        (run_module, "_r", _Order(order)),
        (run_module, "TheIOManager", NoInput),
        (MockClock, "current_time", now_s),
        (MockClock, "_autojump", jump),
        (nacl.bindings, "crypto_sign", signatures.sign),
        (nacl.bindings, "crypto_sign_open", signatures.open),
        (os, "urandom", entropy.randbytes),
        (random, "_urandom", entropy.randbytes),  # what ``secrets`` ends at
        (os, "fsync", _fsync(os.fsync)),
        (trio.to_thread, "run_sync", run_in_place),
        (_trio_path, "run_sync", run_in_place),
    )
    before = [getattr(module, name) for module, name, _ in places]
    collected = gc.get_threshold()
    try:
        gc.set_threshold(*_GARBAGE)
        for module, name, value in places:
            setattr(module, name, value)
        yield
    finally:
        for (module, name, _), value in zip(places, before, strict=True):
            setattr(module, name, value)
        gc.set_threshold(*collected)


async def run_in_place(
    sync_fn: Callable[..., T],
    *args: Any,  # whatever the function takes
    thread_name: str | None = None,  # noqa: ARG001  as the original has it
    abandon_on_cancel: bool = False,  # noqa: ARG001  as above
    limiter: trio.CapacityLimiter | None = None,  # noqa: ARG001  as above
) -> T:
    """What :func:`trio.to_thread.run_sync` is replaced by: the same, on the disk of the node that asks."""
    await trio.lowlevel.checkpoint_if_cancelled()
    disk = current_disk()
    if disk is None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        return sync_fn(*args)
    return await disk.work(lambda: sync_fn(*args))


class RandomUUIDs:
    """UUIDs that a seed determines, one after another."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(seed)  # noqa: S311  a simulation, not a secret

    def __call__(self) -> uuid.UUID:
        """The next."""
        return uuid.UUID(int=self._rng.getrandbits(128), version=4)


class _Order:
    """Shuffles the tasks of a moment: as trio's own generator in its deterministic mode, and cheaper for the usual few."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.random, self.uniform = rng.random, rng.uniform

    def shuffle(self, batch: list[Any]) -> None:
        if len(batch) > 1:
            self._rng.shuffle(batch)


def _fsync(real: Callable[[int], None]) -> Callable[[int], None]:
    def fsync(descriptor: int) -> None:
        if not note_sync(descriptor):
            real(descriptor)

    return fsync
