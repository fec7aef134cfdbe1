"""Checks that run side by side, each with its own deadline: what one finds, or that it failed, keeps no other waiting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import trio

from dms.node.diagnosis import Finding, problem, worst_first
from dms.observe import get_logger
from dms.types.errors import DMSError

DEADLINE_S = 5.0
SEE_LOG = "see the log"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """Something that is looked at: the word under which its findings stand, and how it is done."""

    about: str
    run: Callable[[], Awaitable[Iterable[Finding]]]
    deadline_s: float = DEADLINE_S


async def examine(checks: Iterable[Check]) -> tuple[Finding, ...]:
    """Run all checks at once; their findings, the worst first, otherwise in the order of the checks."""
    chosen = tuple(checks)
    found: list[tuple[Finding, ...]] = [()] * len(chosen)

    async def run(place: int, check: Check) -> None:
        found[place] = await _outcome(check)

    async with trio.open_nursery() as nursery:
        for place, check in enumerate(chosen):
            nursery.start_soon(run, place, check)
    return worst_first(finding for findings in found for finding in findings)


async def _outcome(check: Check) -> tuple[Finding, ...]:
    with trio.move_on_after(check.deadline_s):
        try:
            return tuple(await check.run())
        except DMSError as exc:
            return (problem(check.about, exc.message, exc.hint or SEE_LOG),)
        except OSError as exc:
            return (problem(check.about, str(exc), SEE_LOG),)
        except Exception as exc:  # a doctor who dies of one symptom is no help
            log.exception("check_failed", check=check.about)
            return (problem(check.about, f"the check itself failed: {type(exc).__name__}", SEE_LOG),)
    return (
        problem(check.about, f"no answer within {check.deadline_s:g} s", "see the log, and how busy the machine is"),
    )
