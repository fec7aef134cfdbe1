"""Where a value comes from: which of the sources, and where in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """The sources, each stronger than those before it."""

    DEFAULT = "default"
    FILE = "file"
    LIVE = "live"
    """Set while the node runs, and kept by it."""
    ENVIRONMENT = "environment"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Origin:
    """A source and the place in it: ``/etc/nunet/dms_config.json:3``, or the name of a variable."""

    source: Source = Source.DEFAULT
    place: str = ""

    @property
    def clause(self) -> str:
        """For the middle of a sentence, after the key; begins with a blank, or is nothing."""
        match self.source:
            case Source.DEFAULT:
                return ""
            case Source.FILE:
                return f" in {self.place}"
            case Source.LIVE:
                return " (set while the node runs)"
            case Source.ENVIRONMENT:
                return f" (environment variable {self.place})"
            case Source.FLAG:
                return " (command line)"

    @property
    def is_fixed(self) -> bool:
        """Whether nobody can change it until the process starts anew."""
        return self.source in (Source.ENVIRONMENT, Source.FLAG)

    def __str__(self) -> str:
        return f"{self.source.value} {self.place}".rstrip()


DEFAULT = Origin()
