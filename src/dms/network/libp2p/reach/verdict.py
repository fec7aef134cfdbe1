"""From what others answered when they were asked to dial us: are we reachable, and how sure is that? Pure.

One peer's word is a verdict of little confidence; it takes no fixed number of them (the library waits for four, which a
small network never has). The last answer of each peer counts, for :data:`VALID_S`.
"""

from __future__ import annotations

from dataclasses import dataclass

from dms.network.reachability import AddressCheck, Reach
from dms.types.ids import PeerID

VALID_S = 1800.0
MAX_ANSWERS = 64
"""The oldest goes first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One peer dialled us, or tried to: at which address, when, and what went wrong (empty: nothing)."""

    peer: PeerID
    address: str
    is_reached: bool
    at_s: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status, and how many peers more say so than say the opposite."""

    status: Reach = Reach.UNKNOWN
    confidence: int = 0


class Verdicts:
    """The answers that count."""

    def __init__(self) -> None:
        self._answers: dict[tuple[PeerID, str], Answer] = {}

    def add(self, answer: Answer) -> None:
        """Take an answer in; it replaces what the same peer said about the same address."""
        key = (answer.peer, answer.address)
        self._answers.pop(key, None)
        self._answers[key] = answer
        while len(self._answers) > MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]

    def clear(self) -> None:
        """Our addresses changed: what was said holds no longer."""
        self._answers.clear()

    def verdict(self, now_s: float) -> Verdict:
        """The majority; with as many on either side nobody knows."""
        reached = {one.peer for one in self._valid(now_s) if one.is_reached}
        failed = {one.peer for one in self._valid(now_s) if not one.is_reached} - reached
        if len(reached) == len(failed):
            return Verdict()
        status = Reach.PUBLIC if len(reached) > len(failed) else Reach.PRIVATE
        return Verdict(status, abs(len(reached) - len(failed)))

    def reached(self, now_s: float) -> tuple[str, ...]:
        """Addresses at which more peers reached us than failed to."""
        return tuple(
            check.address
            for check in self.checks(now_s)
            if check.address and len(check.reached_by) > len(check.failed_for)
        )

    def checks(self, now_s: float) -> tuple[AddressCheck, ...]:
        """What was found about each address; that of an answer that names none is empty."""
        by_address: dict[str, list[Answer]] = {}
        for one in self._valid(now_s):
            by_address.setdefault(one.address, []).append(one)
        return tuple(
            AddressCheck(
                address,
                reached_by=tuple(one.peer for one in answers if one.is_reached),
                failed_for=tuple(one.peer for one in answers if not one.is_reached),
                why=next((one.why for one in reversed(answers) if one.why), ""),
            )
            for address, answers in sorted(by_address.items())
        )

    def _valid(self, now_s: float) -> list[Answer]:
        return [one for one in self._answers.values() if now_s - one.at_s < VALID_S]
