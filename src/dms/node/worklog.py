"""What became of the requests for bids that this machine heard: counters by the hour, and the last requests one by one.

Kept in one small file, so that the owner can ask tomorrow why the night was quiet. It is written every minute at most, and
when the node stops; what a crash loses of it is a minute. Everything in it is bounded: other machines decide how much
there is to tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import trio

from dms.identity.files import make_private_directory, write_private
from dms.node.reasons import MAX_TEXT_CHARS, Reason
from dms.observe import get_logger
from dms.types import gojson
from dms.types.errors import BadJSON
from dms.types.gojson import Wire
from dms.types.ids import EnsembleID, PeerID

MAX_HOURS = 48
MAX_REQUESTS = 100
MAX_REASONS = 10
"""Of one request."""
MAX_STRANGERS = 50
MAX_OPEN = 10_000
"""Bids of which it is not known yet what became of them."""
HOUR_NS = 3600 * 10**9

REQUESTS, DRY_RUNS, BIDS, WON, LOST, DENIED = "requests", "dry_runs", "bids", "won", "lost", "denied"
"""Bids are counted once for each ensemble: they are won when anything of it comes here, and lost when they expire."""
OUT_OF_TURN = "out_of_turn"
"""Requests that were left to others, as only some of a large network shall answer."""
REFUSED = "refused."
"""Followed by the rule; counts nodes, equal ones of a request as one."""

log = get_logger(__name__)


class RefusedHere(Wire):
    """Nodes of one request that were not bid for, by one rule."""

    rule: str
    reason: str
    remedy: str
    nodes: int


class HeardRequest(Wire):
    """One ensemble that somebody asked for bids for; further rounds of it are counted here."""

    ensemble: EnsembleID
    peer: PeerID
    did: str
    first_ns: int
    last_ns: int
    rounds: int
    nodes: int
    bid: int
    """Nodes that were bid for in the last round; equal ones count as one, here and above."""
    outcome: str = ""
    """:data:`WON` or :data:`LOST`, once that is known."""
    is_dry_run: bool = False
    refused: tuple[RefusedHere, ...] = ()


class Stranger(Wire):
    """Somebody who asked for bids without the authority; ``did`` is what the message claims."""

    peer: PeerID
    did: str
    times: int
    last_ns: int
    reason: str
    hint: str = ""


class Kept(Wire):
    """The file. ``hours``: counters by the hour, in hours since 1970."""

    hours: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    requests: tuple[HeardRequest, ...] = ()
    strangers: tuple[Stranger, ...] = ()


class WorkLog:
    """The diary of one provider; in memory, and in ``path`` if there is one."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._hours: dict[int, dict[str, int]] = {}
        self._requests: dict[EnsembleID, HeardRequest] = {}
        self._strangers: dict[PeerID, Stranger] = {}
        self._open: dict[EnsembleID, int] = {}
        self._is_dirty = False

    # what happens --------------------------------------------------------------------------------------------------

    def heard(
        self,
        ensemble: EnsembleID,
        peer: PeerID,
        did: str,
        now_ns: int,
        *,
        nodes: int,
        bid: Sequence[str],
        refused: Mapping[Reason, Sequence[str]],
        expiry_ns: int,
        is_dry_run: bool = False,
    ) -> None:
        """Somebody who may asked for bids; ``bid``: nodes that got one, valid until ``expiry_ns``."""
        self._count(now_ns, DRY_RUNS if is_dry_run else REQUESTS)
        for reason, names in refused.items():
            self._count(now_ns, REFUSED + reason.rule.value, len(names))
        if not is_dry_run:
            if bid and ensemble not in self._open:
                self._count(now_ns, BIDS)
            if bid and (ensemble in self._open or len(self._open) < MAX_OPEN):
                self._open[ensemble] = expiry_ns
        known = self._requests.pop(ensemble, None)
        fresh = known is None or known.peer != peer
        self._requests[ensemble] = HeardRequest(
            ensemble=ensemble,
            peer=peer,
            did=did[:200],
            first_ns=now_ns if known is None or fresh else known.first_ns,
            last_ns=now_ns,
            rounds=1 if known is None or fresh else known.rounds + 1,
            nodes=nodes,
            bid=len(bid),
            outcome="" if known is None or fresh else known.outcome,
            is_dry_run=is_dry_run,
            refused=tuple(
                RefusedHere(
                    rule=reason.rule.value,
                    reason=reason.text[:MAX_TEXT_CHARS],
                    remedy=reason.remedy,
                    nodes=len(names),
                )
                for reason, names in list(refused.items())[:MAX_REASONS]
            ),
        )
        while len(self._requests) > MAX_REQUESTS:
            del self._requests[next(iter(self._requests))]

    def committed(self, ensemble: EnsembleID, now_ns: int) -> None:
        """A bid was taken; told for each allocation, counted once."""
        if self._open.pop(ensemble, None) is not None:
            self._end(ensemble, WON, now_ns)

    def passed_over(self, now_ns: int) -> None:
        """Others were to answer a request."""
        self._count(now_ns, OUT_OF_TURN)

    def denied(self, peer: PeerID, did: str, now_ns: int, reason: str, hint: str) -> None:
        """Somebody who may not asked."""
        self._count(now_ns, DENIED)
        known = self._strangers.pop(peer, None)
        self._strangers[peer] = Stranger(
            peer=peer,
            did=did[:200],
            times=known.times + 1 if known else 1,
            last_ns=now_ns,
            reason=reason[:MAX_TEXT_CHARS],
            hint=hint[:MAX_TEXT_CHARS],
        )
        while len(self._strangers) > MAX_STRANGERS:
            del self._strangers[next(iter(self._strangers))]

    def sweep(self, now_ns: int) -> None:
        """Bids that expired without being taken are lost; hours long ago are forgotten."""
        for ensemble, expiry_ns in list(self._open.items()):
            if expiry_ns < now_ns:
                del self._open[ensemble]
                self._end(ensemble, LOST, now_ns)
        for hour in [hour for hour in self._hours if hour <= now_ns // HOUR_NS - MAX_HOURS]:
            del self._hours[hour]
            self._is_dirty = True

    # what is known -------------------------------------------------------------------------------------------------

    def counts(self, now_ns: int, hours: int) -> dict[str, int]:
        """The counters of the last hours together, the one that goes on included."""
        found: dict[str, int] = {}
        for hour, counts in self._hours.items():
            if hour > now_ns // HOUR_NS - hours:
                for name, count in counts.items():
                    found[name] = found.get(name, 0) + count
        return dict(sorted(found.items()))

    def requests(self, since_ns: int) -> tuple[HeardRequest, ...]:
        """The last requests, the newest first."""
        return tuple(r for r in reversed(self._requests.values()) if r.last_ns >= since_ns)

    def strangers(self, since_ns: int) -> tuple[Stranger, ...]:
        """Who was denied, the latest first."""
        return tuple(s for s in reversed(self._strangers.values()) if s.last_ns >= since_ns)

    # on disk -------------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Find again what an earlier life wrote; a file that makes no sense is begun anew."""
        if self._path is None:
            return
        try:
            data = await trio.to_thread.run_sync(self._path.read_bytes)
            kept = gojson.decode(data, Kept)
            self._hours = {int(hour): dict(counts) for hour, counts in kept.hours.items()}
        except FileNotFoundError:
            return
        except (OSError, BadJSON, ValueError) as exc:
            log.warning("work_log_unreadable", path=str(self._path), error=str(exc))
            return
        self._requests = {request.ensemble: request for request in kept.requests[-MAX_REQUESTS:]}
        self._strangers = {stranger.peer: stranger for stranger in kept.strangers[-MAX_STRANGERS:]}

    async def save(self) -> None:
        """Write what is new, if anything is. A disk that refuses costs the diary, nothing else."""
        if self._path is None or not self._is_dirty:
            return
        path, self._is_dirty = self._path, False
        kept = Kept(
            hours={str(hour): counts for hour, counts in self._hours.items()},
            requests=tuple(self._requests.values()),
            strangers=tuple(self._strangers.values()),
        )
        data = gojson.encode(kept)

        def write() -> None:
            make_private_directory(path.parent)
            write_private(path, data)

        try:
            await trio.to_thread.run_sync(write)
        except OSError as exc:
            self._is_dirty = True
            log.warning("work_log_not_written", path=str(path), error=str(exc))

    def _end(self, ensemble: EnsembleID, outcome: str, now_ns: int) -> None:
        self._count(now_ns, outcome)
        known = self._requests.get(ensemble)
        if known is not None:
            self._requests[ensemble] = msgspec.structs.replace(known, outcome=outcome)

    def _count(self, now_ns: int, name: str, amount: int = 1) -> None:
        counts = self._hours.setdefault(now_ns // HOUR_NS, {})
        counts[name] = counts.get(name, 0) + amount
        self._is_dirty = True
