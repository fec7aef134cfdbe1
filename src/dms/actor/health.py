"""Health checks of actors: whether one is well, for the supervisor that made or ordered it (``spec/security.md`` 5.8).

Every child answers ``/dms/actor/healthcheck``. What "well" means is set from inside (:meth:`Health.check_with`) or, where the
actor can carry out such checks, by its supervisor, who registers one. Both are granted to the supervisor for as long as the
child lives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import trio

from dms.actor.behaviour import Message
from dms.types.errors import DMSError
from dms.types.gojson import Wire
from dms.types.ids import Capability

HEALTH_CHECK: Final = "/dms/actor/healthcheck"
REGISTER: Final = "/dms/actor/healthcheck/register"
HEALTH_CAP: Final = Capability(HEALTH_CHECK)
GRANT_LIFETIME_S: Final = 7200.0
CHECK_TIMEOUT_S: Final = 10.0

Check = Callable[[], Awaitable[str]]
"""What is wrong, in one line; empty: nothing. See also :class:`NotYet`."""
MakeCheck = Callable[[dict[str, Any]], Awaitable[Check]]
"""A check out of the manifest that a supervisor registers; raises a :class:`DMSError` for what cannot be checked."""


class NotYet(str):
    """The answer of a check: it is not well yet, because of something that is still being done for it. No failure."""

    __slots__ = ()


class HealthReply(Wire):
    """The answer to both behaviours. Ours: ``waits``, see :class:`NotYet`."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error")
    waits: bool = msgspec.field(name="Waits", default=False)


class Registration(Wire):
    """What a supervisor registers."""

    ensemble_id: str = msgspec.field(name="EnsembleID")
    health_check: dict[str, Any] = msgspec.field(name="HealthCheck")


class _Asked:
    """A check that runs now, and who waits for it."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self.problem = "the check was interrupted"
        self.over = trio.Event()


class Health:
    """Whether one actor is well. However many ask at once, one check runs, and all hear its result."""

    def __init__(self) -> None:
        self._check: Check | None = None
        self._make: MakeCheck | None = None
        self._asked: _Asked | None = None
        self.last: tuple[str, float] | None = None
        """The last result, and when it came by trio's clock."""

    def check_with(self, check: Check | None) -> None:
        """Ask ``check`` from now on; without one an actor that answers is well."""
        self._check = check

    def accept(self, make: MakeCheck) -> None:
        """Let the supervisor register checks, made by ``make``."""
        self._make = make

    async def problem(self) -> str:
        """What is wrong; empty: nothing. A check that takes too long, or fails itself, is a problem too."""
        if self._check is None:
            return ""
        asked = self._asked
        if asked is not None and asked.check == self._check:
            await asked.over.wait()
            return asked.problem
        self._asked = asked = _Asked(self._check)
        try:
            asked.problem = await self._ask(self._check)
            if not isinstance(asked.problem, NotYet):
                self.last = asked.problem, trio.current_time()
        finally:
            asked.over.set()
            if self._asked is asked:
                self._asked = None
        return asked.problem

    async def _ask(self, check: Check) -> str:
        try:
            with trio.fail_after(CHECK_TIMEOUT_S):
                return await check()
        except trio.TooSlowError:
            return f"the check took longer than {CHECK_TIMEOUT_S:g} s"
        except DMSError as exc:
            return exc.message

    async def on_check(self, _message: Message[Any]) -> HealthReply:
        """``/dms/actor/healthcheck``."""
        problem = await self.problem()
        return HealthReply(ok=not problem, error=str(problem), waits=isinstance(problem, NotYet))

    async def on_register(self, message: Message[Registration]) -> HealthReply:
        """``/dms/actor/healthcheck/register``; the last one counts."""
        if self._make is None:
            return HealthReply(ok=False, error="this actor takes no health checks")
        try:
            self._check = await self._make(message.payload.health_check)
        except DMSError as exc:
            return HealthReply(ok=False, error=exc.message)
        return HealthReply(ok=True, error="")


def health_error(text: str) -> HealthReply:
    """The reply when the request itself is wrong."""
    return HealthReply(ok=False, error=text)
