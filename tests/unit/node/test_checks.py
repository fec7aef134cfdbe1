"""Checks that run side by side."""

from __future__ import annotations

from collections.abc import Iterable

import trio
from trio.testing import MockClock

from dms.node.checks import Check, examine
from dms.node.diagnosis import Finding, note, ok, problem
from dms.types.errors import Unavailable


async def finds(*findings: Finding, after_s: float = 0.0) -> Iterable[Finding]:
    await trio.sleep(after_s)
    return findings


async def test_all_run_at_once_and_the_worst_comes_first(autojump_clock: MockClock) -> None:
    begun = trio.current_time()
    found = await examine(
        [
            Check("slow", lambda: finds(ok("slow", "fine"), note("slow", "well"), after_s=4.0)),
            Check("quick", lambda: finds(ok("quick", "fine"), after_s=3.0)),
            Check("bad", lambda: finds(problem("bad", "broken"), after_s=4.0)),
        ]
    )
    assert trio.current_time() - begun == 4.0
    assert [(each.level, each.about) for each in found] == [
        ("problem", "bad"),
        ("note", "slow"),
        ("ok", "slow"),
        ("ok", "quick"),
    ]


async def test_what_hangs_or_fails_is_a_finding_and_keeps_no_other_waiting(autojump_clock: MockClock) -> None:
    async def refuses() -> Iterable[Finding]:
        raise Unavailable("nobody is there", hint="call again")

    async def breaks() -> Iterable[Finding]:
        raise OSError(5, "input/output error")

    async def is_defect() -> Iterable[Finding]:
        raise KeyError("x")

    begun = trio.current_time()
    found = await examine(
        [
            Check("hangs", lambda: finds(after_s=999.0), deadline_s=2.0),
            Check("refuses", refuses),
            Check("breaks", breaks),
            Check("defect", is_defect),
            Check("works", lambda: finds(ok("works", "fine"))),
        ]
    )
    assert trio.current_time() - begun == 2.0
    told = {each.about: (each.level, each.text) for each in found}
    assert told["hangs"] == ("problem", "no answer within 2 s")
    assert told["refuses"] == ("problem", "nobody is there")
    assert told["breaks"][1].endswith("input/output error")
    assert told["defect"] == ("problem", "the check itself failed: KeyError")
    assert told["works"] == ("ok", "fine")
    assert {each.about: each.hint for each in found}["refuses"] == "call again"
