"""Running ``nunet`` inside a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Done:
    """A command line that has ended, and what it wrote."""

    code: int
    out: str
    err: str


class Nunet(Protocol):
    """Runs one command line."""

    def __call__(self, *args: object) -> Done:
        """Run with these arguments, each as text."""
        ...
