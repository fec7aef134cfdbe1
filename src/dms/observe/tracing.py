"""Traces: spans of work that follow one deployment from machine to machine (``spec/platform.md`` 5.4).

A span belongs to a trace and has a parent; the two travel as a ``traceparent`` (W3C Trace Context) in envelopes, so that
what another machine does for us stands below what we asked for. Without an output for spans nothing is recorded, and the
context is only passed on.

The trace of a deployment has the first half of its id for its own id (:func:`context_of_deployment`): whoever knows the
deployment finds its trace, and a restart of the node goes on with it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import trio

from dms.types.traceparent import TraceContext, parse_traceparent

MAX_ATTRIBUTES: Final = 32
MAX_TEXT_CHARS: Final = 500


class Kind(Enum):
    """What a span is to the one above it."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


@dataclass(slots=True)
class Span:
    """Some work, from its start to its end, UNIX nanoseconds."""

    name: str
    context: TraceContext
    parent_id: str
    kind: Kind
    start_ns: int
    end_ns: int = 0
    attributes: dict[str, object] = field(default_factory=dict)
    error: str = ""

    def note(self, **attributes: object) -> None:
        """Say more of it."""
        self.attributes |= attributes


Sink = Callable[[Span], object]
"""Takes a span that has ended; must neither wait nor raise."""

_sinks: tuple[Sink, ...] = ()
_current: ContextVar[TraceContext | None] = ContextVar("dms_trace", default=None)
_random = random.SystemRandom()
_now_ns: Callable[[], int] = time.time_ns


def add_sink(sink: Sink) -> Callable[[], None]:
    """Have ``sink`` called with every span that ends; call the result to end that."""
    global _sinks
    _sinks = (*_sinks, sink)

    def remove() -> None:
        global _sinks
        _sinks = tuple(other for other in _sinks if other is not sink)

    return remove


def is_tracing() -> bool:
    """Whether spans are recorded."""
    return bool(_sinks)


def current() -> TraceContext | None:
    """Where this task is, if it is part of a trace."""
    return _current.get()


def current_traceparent() -> str:
    """What a message of this task carries; empty outside of traces."""
    context = _current.get()
    return context.traceparent if context is not None else ""


def context_of_deployment(ensemble: str) -> TraceContext | None:
    """The root of a deployment's trace, made of its id, which is a hash."""
    return parse_traceparent(f"00-{ensemble[:32]}-{ensemble[32:48]}-01")


@contextmanager
def joined(context: TraceContext | None) -> Iterator[None]:
    """Be part of a trace, with all tasks that are started from here."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def span(
    name: str,
    /,
    *,
    kind: Kind = Kind.INTERNAL,
    parent: TraceContext | None = None,
    is_root: bool = False,
    **attributes: object,
) -> Iterator[Span | None]:
    """Record what is done inside, below ``parent`` or where this task is; outside of traces nothing, unless it ``is_root``.

    An exception marks the span as failed, and goes on.
    """
    above = parent or _current.get()
    if not _sinks or (above is None and not is_root) or (above is not None and not above.is_sampled):
        if parent is None:
            yield None
        else:
            with joined(parent):
                yield None
        return
    trace_id = above.trace_id if above is not None else _hex(128)
    span_id = _hex(64)
    is_entry = above is None or parent is not None
    entry = span_id if is_entry else above.entry_id if above is not None else ""
    context = TraceContext(trace_id, span_id, entry_id=entry)
    made = Span(name, context, above.span_id if above is not None else "", kind, _now_ns(), attributes=attributes)
    token = _current.set(context)
    try:
        yield made
    except trio.Cancelled:
        made.note(cancelled=True)
        raise
    except BaseException as exc:
        made.error = f"{type(exc).__name__}: {exc}"
        raise
    finally:
        _current.reset(token)
        record(made)


def record(made: Span) -> None:
    """Hand on a span; ended now, unless it has its end."""
    made.end_ns = made.end_ns or _now_ns()
    for sink in _sinks:
        sink(made)


def record_deployment(ensemble: str, start_ns: int, status: str, error: str, attributes: Mapping[str, object]) -> None:
    """The root of a deployment's trace, once it has ended."""
    context = context_of_deployment(ensemble)
    if context is None or not _sinks:
        return
    whole = Span("deployment", context, "", Kind.SERVER, start_ns)
    whole.note(ensemble=ensemble, status=status, **attributes)
    whole.error = error
    record(whole)


def trace_fields() -> Mapping[str, str]:
    """What a log entry carries to be found from its span."""
    context = _current.get()
    if context is None or not _sinks:
        return {}
    return {
        "trace.id": context.trace_id,
        "transaction.id": context.entry_id or context.span_id,
        "span.id": context.span_id,
    }


def _hex(bits: int) -> str:
    while not (number := _random.getrandbits(bits)):
        pass
    return f"{number:0{bits // 4}x}"
