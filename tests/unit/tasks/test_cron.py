from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.tasks.cron import LAST_S, CronExpression
from dms.tasks.errors import BadCron

BERLIN = ZoneInfo("Europe/Berlin")


def occurrences(text: str, zone: str, start: datetime, count: int) -> list[str]:
    expression, at_s, found = CronExpression(text, zone), start.timestamp(), []
    for _ in range(count):
        after = expression.next_after(at_s)
        assert after is not None
        at_s = after
        found.append(datetime.fromtimestamp(at_s, UTC).strftime("%m-%d %H:%M"))
    return found


def test_every_night_in_a_zone_follows_its_clock() -> None:
    # the clocks go forward on 29 March 2026 at 2:00 (1:00 UTC)
    found = occurrences("0 3 * * *", "Europe/Berlin", datetime(2026, 3, 27, 12, tzinfo=UTC), 3)

    assert found == ["03-28 02:00", "03-29 01:00", "03-30 01:00"]


def test_what_falls_into_the_hour_left_out_runs_right_after_it() -> None:
    found = occurrences("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC), 2)

    assert found == ["03-29 01:00", "03-30 00:30"]


def test_what_falls_into_the_hour_that_comes_twice_runs_once() -> None:
    # the clocks go back on 25 October 2026 at 3:00 (1:00 UTC)
    found = occurrences("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC), 2)
    within = occurrences("45 2 * * *", "Europe/Berlin", datetime(2026, 10, 25, 1, 10, tzinfo=UTC), 1)

    assert found == ["10-25 00:30", "10-26 01:30"]
    assert within == ["10-26 01:45"]


def test_quarters_of_an_hour_go_on_evenly() -> None:
    found = occurrences("*/15 * * * *", "Europe/Berlin", datetime(2026, 10, 25, 0, 20, tzinfo=UTC), 6)

    assert found == ["10-25 00:30", "10-25 00:45", "10-25 01:00", "10-25 01:15", "10-25 01:30", "10-25 01:45"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "@daily",
        "0 0 30 2 *",
        "0 0 31 2,4,6,9,11 *",
        "1," * 150 + "1 * * * *",
        "* * L/x * *",
        "* * * * L",
        "٣ * * * *",
        "1-2-3 * * * *",
        "* * * * 1#6",
        "* * * * #",
        ", * * * *",
        "-1 * * * *",
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(BadCron):
        CronExpression(text)


@pytest.mark.parametrize(
    "zone", ["Europe/Atlantis", "../../etc/passwd", "/etc/passwd", "", "Europe", "a\0b", "x" * 5000]
)
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(BadCron, match="zone"):
        CronExpression("* * * * *", zone)


def test_nothing_is_looked_for_after_the_last_year() -> None:
    assert CronExpression("* * * * *").next_after(LAST_S) is None


@given(text=st.text(alphabet="0123456789*/,-LW#MON ", max_size=30))
@settings(max_examples=100)
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        expression = CronExpression(text)
    except BadCron:
        return
    after = expression.next_after(1.9e9)
    assert after is None or after > 1.9e9


@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=4),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=4),
    start=st.integers(1_767_225_600, 1_798_761_600),
)
@settings(max_examples=60)
def test_times_agree_with_a_search_minute_by_minute(minutes: set[int], hours: set[int], start: int) -> None:
    expression = CronExpression(f"{_listed(minutes)} {_listed(hours)} * * *", "Europe/Berlin")

    found = expression.next_after(start)

    at = datetime.fromtimestamp(start // 60 * 60 + 60, UTC)
    while not _matches(at, minutes, hours):
        at += timedelta(minutes=1)
    assert found is not None
    day = at.astimezone(BERLIN).date().isoformat()
    if day in ("2026-03-29", "2026-10-25") or _is_changed_before(found):
        return  # the changes of the clocks have tests of their own
    assert datetime.fromtimestamp(found, UTC) == at


def _listed(numbers: set[int]) -> str:
    return ",".join(str(number) for number in sorted(numbers))


def _matches(at: datetime, minutes: set[int], hours: set[int]) -> bool:
    local = at.astimezone(BERLIN)
    return local.minute in minutes and local.hour in hours


def _is_changed_before(found_s: float) -> bool:
    return datetime.fromtimestamp(found_s, BERLIN).date().isoformat() in ("2026-03-29", "2026-10-25")
