from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.cli.times import parse_time_ns
from dms.types.errors import BadInput

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (hypothesis wants naive bounds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86400),
        ("1970-01-01 00:00:01", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00-01:30", 5400),
        ("2030-12-31", 1924905600),
        ("2024-02-29T12:00:00Z", 1709208000),
        ("02 Jan 06 15:04 UTC", 1136214240),
        ("02 Jan 06 15:04 -0700", 1136239440),
    ],
)
def test_every_format_is_read_as_utc_unless_it_says_otherwise(text: str, seconds: int) -> None:
    assert parse_time_ns(text) == seconds * 10**9


def test_nanoseconds_are_kept() -> None:
    assert parse_time_ns("2024-02-29T12:00:00.123456789Z") == 1709208000123456789
    assert parse_time_ns("2024-02-29T12:00:00.5+00:00") == 1709208000500000000


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2030-13-01", "2023-02-29", "2030-12-31Z", "12:00:00", "1960-01-01", "2030-12-31T25:00:00Z",
     "02 Foo 06 15:04 UTC", "2030-12-31T00:00:00+99:00", "٢٠٣٠-12-31"],
)  # fmt: skip
def test_other_texts_are_refused_with_the_formats(text: str) -> None:
    with pytest.raises(BadInput, match="format must be one of: "):
        parse_time_ns(text)


@given(st.datetimes(min_value=EPOCH))
def test_what_python_writes_is_read_back(moment: datetime) -> None:
    since = moment - EPOCH
    expected = (since // timedelta(microseconds=1)) * 1000
    assert parse_time_ns(moment.replace(tzinfo=UTC).isoformat()) == expected
