"""Cron expressions: five fields, read in a time zone.

Around a change of the clocks they behave as in Debian's cron: what falls into the hour that is left out runs right after
it, what falls into the hour that comes twice runs once; expressions with ``*`` for minute or hour go on evenly.
"""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

from cronsim import CronSim, CronSimError

from dms.tasks.errors import BadCron

MAX_LENGTH = 200
FIELDS = 5
LAST_S = 32_503_680_000.0
"""The year 3000: no occurrence is looked for beyond."""


@dataclass(frozen=True, slots=True)
class CronExpression:
    """One expression, checked; ``zone`` is a name as in ``Europe/Berlin``.

    :raises BadCron: it is not one, never occurs, or the zone is unknown.
    """

    text: str
    zone: str = "UTC"
    _tz: tzinfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tz", time_zone(self.zone))
        if len(self.text) > MAX_LENGTH or len(self.text.split()) != FIELDS:
            raise BadCron(f"not a cron expression of five fields: {self.text[:60]!r}")
        if self.next_after(0.0) is None:
            raise BadCron(f"the cron expression {self.text!r} never occurs")

    def next_after(self, wall_s: float) -> float | None:
        """The first occurrence later than a moment, both seconds since 1970; ``None``: there is none."""
        if wall_s >= LAST_S:
            return None
        try:
            occurrences = CronSim(self.text, datetime.fromtimestamp(wall_s, UTC).astimezone(self._tz))
            # of the hour that comes twice the library means the first, which may be over
            return next((s for at in occurrences if (s := at.timestamp()) > wall_s), None)
        except CronSimError as exc:
            raise BadCron(f"not a cron expression: {self.text!r}: {str(exc).lower()}") from None
        except (AssertionError, ValueError, OverflowError, RuntimeError):  # what the library did not think of
            raise BadCron(f"not a cron expression: {self.text!r}") from None


def time_zone(name: str) -> tzinfo:
    """A time zone by its name.

    :raises BadCron: it is unknown.
    """
    if name.upper() == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise BadCron(f"unknown time zone {name[:60]!r}", hint="name it as in Europe/Berlin, or UTC") from None
