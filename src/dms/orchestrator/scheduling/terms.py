"""What a user asked of a deployment beside the ensemble: how long it may wait for capacity, how long it shall run."""

from __future__ import annotations

from dms.types.gojson import Wire

MAX_QUEUE_S = 30 * 86_400.0
MAX_RUN_S = 10 * 365 * 86_400.0


class Terms(Wire):
    """Stored with the deployment, so that a restart changes none of it. Times are UNIX nanoseconds.

    ``queue_until_ns``: until then it waits where there is no capacity, 0: it does not wait. ``run_for_ns``: it ends so long
    after it first ran, 0: when it is done. ``schedule``: whose run it is.
    """

    queue_until_ns: int = 0
    run_for_ns: int = 0
    schedule: str = ""
