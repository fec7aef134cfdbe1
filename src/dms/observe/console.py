"""The console: events for people, coloured on a terminal (``spec/platform.md`` 5.1)."""

from __future__ import annotations

import logging
from typing import TextIO

import structlog

from dms.observe.entries import entry_of, harmless

HIDDEN_THERE = ("caller", "did")
"""Said in the file only: on the console they are the same in every line, or of use to few."""


class Console(logging.StreamHandler[TextIO]):
    """Shows entries on ``stream``, as structlog renders them."""

    def __init__(self, stream: TextIO, did: str) -> None:
        super().__init__(stream)
        self._did = did
        self._render = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(),
            timestamp_key="timestamp",
            event_key="message",
            exception_formatter=structlog.dev.plain_traceback,
        )

    def format(self, record: logging.LogRecord) -> str:
        """One line, or more with a traceback; without what could act on a terminal."""
        shown = {key: value for key, value in entry_of(record, self._did).items() if key not in HIDDEN_THERE}
        return harmless(str(self._render(None, "", shown)))
