"""Where in a trace a message stands: the ``traceparent`` of the W3C (Trace Context), read and written."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[0-9A-Za-z_-]{0,200})?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where in which trace we are; ids are lower-case hex of 32 and 16 characters."""

    trace_id: str
    span_id: str
    is_sampled: bool = True
    entry_id: str = ""
    """The span with which the trace came to this process."""

    @property
    def traceparent(self) -> str:
        """As it travels."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"


def parse_traceparent(text: str) -> TraceContext | None:
    """The context that somebody sent; ``None`` where it is none, as that is no reason to refuse a message."""
    match = _TRACEPARENT.fullmatch(text) if len(text) < 300 else None
    if match is None or match[1] == "0" * 32 or match[2] == "0" * 16:
        return None
    return TraceContext(match[1], match[2], is_sampled=bool(int(match[3], 16) & 1))
