"""Why does this machine get no work? From facts to findings, pure: what stands against work here, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from dms.hardware.clock import ClockState
from dms.node import worklog
from dms.node.reasons import Reason, Rule
from dms.node.worklog import HeardRequest, Stranger
from dms.types.gojson import Wire
from dms.types.resources import Location, Resources
from dms.types.units import format_bytes

MANY_EXPIRED = 10
MAX_EXAMPLES = 3


class Level(StrEnum):
    """How bad it is."""

    PROBLEM = "problem"
    """As long as it is so there is no work, or less than there could be."""
    NOTE = "note"
    """Worth knowing; nothing need be wrong."""
    OK = "ok"


class Admits(Enum):
    """Who may ask this machine for bids, as far as its anchors tell."""

    NOBODY = 0
    OWNER = 1
    """The owner, and whoever the owner lets."""
    OTHERS = 2


class Finding(Wire):
    """One thing that was looked at; ``hint`` is what the owner can do."""

    level: str
    about: str
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found. ``peers``: live connections; ``admits``: who may ask for bids here;
    ``expired``: messages refused since the start because their time was over; ``hosted``: allocations that run here.
    """

    hours: int
    is_ready: bool
    onboarded: Resources | None
    free: Resources | None
    hosted: int
    executors: frozenset[str]
    missing: Mapping[str, str]
    peers: int
    admits: Admits
    location: Location
    clock: ClockState
    expired: int
    counts: Mapping[str, int] = field(default_factory=dict)
    requests: tuple[HeardRequest, ...] = ()
    strangers: tuple[Stranger, ...] = ()


def diagnose(facts: Facts) -> tuple[Finding, ...]:
    """Everything that was looked at, the worst first."""
    found = [
        *_offer(facts),
        *_reach(facts),
        *_authority(facts),
        *_requests(facts),
        *_refusals(facts),
        *_bids(facts),
        *_executors(facts),
        *_clock(facts),
    ]
    return worst_first(found)


def worst_first(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings in the order of their weight; equal ones stay as they are."""
    order = [level.value for level in Level]
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


def summary(findings: tuple[Finding, ...], all_well: str = "nothing stands against work here") -> str:
    """All of it in one sentence."""
    problems = [finding for finding in findings if finding.level == Level.PROBLEM.value]
    if not problems:
        return all_well
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{problems[0].text}{more}"


def problem(about: str, text: str, hint: str = "") -> Finding:
    """A finding that stands against it."""
    return Finding(level=Level.PROBLEM.value, about=about, text=text, hint=hint)


def note(about: str, text: str, hint: str = "") -> Finding:
    """A finding worth knowing."""
    return Finding(level=Level.NOTE.value, about=about, text=text, hint=hint)


def ok(about: str, text: str) -> Finding:
    """A finding that all is well."""
    return Finding(level=Level.OK.value, about=about, text=text)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _offer(facts: Facts) -> Iterator[Finding]:
    if not facts.is_ready:
        yield problem("offer", "the node is still finding what it ran before", "wait a moment, and ask again")
        return
    if facts.onboarded is None or facts.free is None:
        yield problem("offer", "this machine offers nothing", "offer a part of it: nunet onboard")
        return
    have, free = facts.onboarded, facts.free
    parts = (
        ("cores", f"{free.cpu.cores:g}", f"{have.cpu.cores:g}", free.cpu.cores < 0.01),
        ("RAM", format_bytes(free.ram.size), format_bytes(have.ram.size), free.ram.size < 1),
        ("disk", format_bytes(free.disk.size), format_bytes(have.disk.size), free.disk.size < 1),
    )
    text = ", ".join(f"{left} of {all_} {name}" for name, left, all_, _ in parts)
    used = [name for name, _, _, is_used_up in parts if is_used_up]
    if used and facts.hosted:
        runs = _many(facts.hosted, "allocation")
        yield note("offer", f"all {' and '.join(used)} offered are in use: {text} free, {runs} here")
    elif used:
        yield problem("offer", f"no {' or '.join(used)} free: {text}", "offer more of the machine: nunet onboard")
    else:
        yield ok("offer", f"free: {text}; {_many(facts.hosted, 'allocation')} here")


def _reach(facts: Facts) -> Iterator[Finding]:
    if facts.peers:
        yield ok("network", f"connected to {_many(facts.peers, 'peer')}")
        return
    yield problem("network", "the node is connected to nobody", "check p2p.bootstrap_peers, the firewall, nunet peers")


def _authority(facts: Facts) -> Iterator[Finding]:
    hint = "anchor the grant of an organisation: nunet cap anchor --require …, as in the guide to joining a network"
    if facts.admits is Admits.NOBODY:
        yield problem("authority", "nobody may ask this machine for bids", hint)
    elif facts.admits is Admits.OWNER:
        yield note("authority", "only the owner, and whoever the owner lets, may ask this machine for bids", hint)
    if not facts.strangers:
        return
    times, first = sum(stranger.times for stranger in facts.strangers), facts.strangers[0]
    text = (
        f"{_many(times, 'request')} of {_many(len(facts.strangers), 'caller')} denied, the last of "
        f"{first.did or first.peer}: "
        f"{first.reason}"
    )
    yield note("authority", text, "if they should be let in: nunet cap explain tells what they lack")


def _requests(facts: Facts) -> Iterator[Finding]:
    heard, passed = facts.counts.get(worklog.REQUESTS, 0), facts.counts.get(worklog.OUT_OF_TURN, 0)
    plans = facts.counts.get(worklog.DRY_RUNS, 0)
    beside = [_many(plans, "dry run")] * bool(plans) + [f"{passed} left to other machines"] * bool(passed)
    text = f"{_many(heard, 'request')} for bids in the last {facts.hours} h" + (
        f", {', '.join(beside)}" if beside else ""
    )
    if heard or passed:
        yield ok("requests", text)
    else:
        yield note("requests", text, "nobody had work, or nobody who may ask here; it can be quiet for hours")


def _refusals(facts: Facts) -> Iterator[Finding]:
    for rule in Rule:
        times = facts.counts.get(worklog.REFUSED + rule.value, 0)
        if not times:
            continue
        said = [r.reason for request in facts.requests for r in request.refused if r.rule == rule.value]
        examples = "; ".join(list(dict.fromkeys(said))[:MAX_EXAMPLES])
        text = f"not bid {_many(times, 'time')} by the rule {rule.value}" + (f": {examples}" if examples else "")
        remedy = Reason(rule, "").remedy
        is_ours = rule in (Rule.NOT_OFFERED, Rule.EXECUTOR) or (rule is Rule.LOCATION and facts.location == Location())
        yield (problem if is_ours and remedy else note)("refused", text, remedy)


def _bids(facts: Facts) -> Iterator[Finding]:
    sent, won, lost = (facts.counts.get(name, 0) for name in (worklog.BIDS, worklog.WON, worklog.LOST))
    if not sent:
        return
    text = f"{_many(sent, 'bid')} sent, {won} taken, {lost} lost"
    if lost and not won:
        hint = "others were nearer, cheaper, emptier or more reliable: see offer.prices, and how much is free"
        yield note("bids", text, hint)
    else:
        yield ok("bids", text)


def _executors(facts: Facts) -> Iterator[Finding]:
    if not facts.executors:
        yield problem("executors", "there is no executor: nothing can run here", "install Docker, or qemu")
    else:
        yield ok("executors", f"there: {', '.join(sorted(facts.executors))}")
    for name, reason in sorted(facts.missing.items()):
        yield note("executors", f"{name} is not there: {reason}", "install it, and start the node again")


def _clock(facts: Facts) -> Iterator[Finding]:
    hint = "let something keep the clock right, such as chrony or systemd-timesyncd"
    if facts.expired > MANY_EXPIRED:
        yield problem("clock", f"{facts.expired} messages came when their time was over: some clock is wrong", hint)
    if facts.clock.is_synchronised is False:
        yield note("clock", "nothing keeps the clock of this machine right, as far as its kernel knows", hint)
    elif facts.clock.is_synchronised:
        yield ok("clock", f"kept right, to {facts.clock.max_error_s:.3f} s")
