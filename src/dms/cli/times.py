"""Moments as people write them in flags (``spec/security.md`` 6)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from dms.types.errors import BadInput
from dms.types.units import parse_duration_ns

FORMATS: Final = (
    "02 Jan 06 15:04 UTC",
    "02 Jan 06 15:04 +0100",
    "2006-01-02T15:04:05Z",
    "2006-01-02T15:04:05.999999999+01:00",
    "2006-01-02 15:04:05",
    "2006-01-02",
)
_RFC822 = re.compile(r"^(\d{2} [A-Z][a-z]{2} \d{2} \d{2}:\d{2}) (?:(UTC|GMT|Z)|([+-])(\d{2})(\d{2}))$")
_RFC3339 = re.compile(
    r"^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?)?(?:(Z)|([+-])(\d{2}):(\d{2}))?$"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time_ns(text: str) -> int:
    """A moment as UNIX nanoseconds; UTC unless the text names an offset.

    :raises BadInput: in none of the formats, or not in the calendar.
    """
    text = text.strip()
    try:
        if match := _RFC822.match(text):
            moment = datetime.strptime(match[1], "%d %b %y %H:%M").replace(tzinfo=_offset(*match.group(3, 4, 5)))
            return _nanoseconds(moment, "")
        if match := _RFC3339.match(text):
            day, clock, fraction = match.group(1, 2, 3)
            if clock is None and match.group(4, 5) != (None, None):
                raise ValueError
            moment = datetime.fromisoformat(f"{day}T{clock or '00:00:00'}").replace(
                tzinfo=_offset(*match.group(5, 6, 7))
            )
            return _nanoseconds(moment, fraction or "")
    except (ValueError, OverflowError):
        pass
    raise BadInput(f"invalid time {text[:60]!r}: format must be one of: {', '.join(FORMATS)}")


def parse_since_ns(text: str, now_ns: int) -> int:
    """The same, or an age: ``90s``, ``10m``, ``2h``, ``1d``.

    :raises BadInput: neither.
    """
    if re.fullmatch(r"[0-9.]+[a-z]+", text.strip()):
        return max(0, now_ns - parse_duration_ns(text.strip(), what="age"))
    return parse_time_ns(text)


def _offset(sign: str | None, hours: str | None, minutes: str | None) -> timezone:
    if sign is None or hours is None or minutes is None:
        return UTC
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-offset if sign == "-" else offset)


def _nanoseconds(moment: datetime, fraction: str) -> int:
    since = moment - _EPOCH
    if since < timedelta():
        raise ValueError
    return (since.days * 86400 + since.seconds) * 10**9 + int(fraction.ljust(9, "0") or 0)
