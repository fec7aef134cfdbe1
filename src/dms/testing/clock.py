"""What a virtual clock needs in order to be trusted where worker threads are at work."""

from __future__ import annotations

import time

import trio

POLL_S = 0.0001


class ThreadsFirst(trio.abc.Instrument):
    """Holds trio's loop, and with it an autojump clock, while worker threads are busy.

    To a clock with autojump a task that waits for a thread is idle: minutes would pass while a directory is made. Add it
    with ``trio.lowlevel.add_instrument``; ``limiters`` are those of threads other than trio's default.
    """

    def __init__(self) -> None:
        self.limiters: list[trio.CapacityLimiter] = [trio.to_thread.current_default_thread_limiter()]

    def before_io_wait(self, timeout: float) -> None:
        """Wait, in real time, until every busy thread has put down its result."""
        was_busy = False
        while any(limiter.borrowed_tokens for limiter in self.limiters):
            now = trio.lowlevel.current_statistics()
            if now.tasks_runnable or now.run_sync_soon_queue_size:
                break
            was_busy = True
            time.sleep(POLL_S)
        if was_busy:
            time.sleep(POLL_S)  # the result is queued a moment before trio is woken for it
