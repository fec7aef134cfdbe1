"""What the node tells about itself: logs, events, counters.

:mod:`~dms.observe.log`       structured logging: :func:`get_logger`, :func:`configure_logging`
:mod:`~dms.observe.entries`   what is known of one record, for all outputs
:mod:`~dms.observe.console`   the console
:mod:`~dms.observe.redact`    secrets stay out of it
:mod:`~dms.observe.rotation`  the log file and its compressed predecessors
:mod:`~dms.observe.limit`     at most one line per key and second about bad input
:mod:`~dms.observe.events`    :class:`EventBus`: events within the process
:mod:`~dms.observe.catalogue` the published events of a node; :mod:`~dms.observe.deployment_events` those of deployments
:mod:`~dms.observe.ring`      the last entries and events, for those who ask what is new
:mod:`~dms.observe.counters`  named counters
"""

from dms.observe.counters import Counters
from dms.observe.events import Event, EventBus, EventKind, Subscription
from dms.observe.limit import LimitedLogger, OncePerPeriod
from dms.observe.log import Logger, configure_logging, get_logger

__all__ = [
    "Counters",
    "Event",
    "EventBus",
    "EventKind",
    "LimitedLogger",
    "Logger",
    "OncePerPeriod",
    "Subscription",
    "configure_logging",
    "get_logger",
]
