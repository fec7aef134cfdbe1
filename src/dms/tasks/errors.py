"""Errors of background tasks.

::

    DMSError
    └── TasksError
        ├── BadCron        a cron expression or time zone that cannot be used  (BadInput)
        ├── BadPlan        a task that makes no sense                          (BadInput)
        └── TaskNotFound   no task with this id                                (NotFound)
"""

from __future__ import annotations

from dms.types.errors import BadInput, DMSError, NotFound


class TasksError(DMSError):
    """A background task cannot be scheduled."""

    code = "tasks"


class BadCron(BadInput, TasksError):
    """The cron expression cannot be used."""

    code = "bad_cron"
    default_hint = 'write minute, hour, day of month, month, day of week: "0 3 * * *" is every night at three'


class BadPlan(BadInput, TasksError):
    """The task makes no sense."""

    code = "bad_plan"


class TaskNotFound(NotFound, TasksError):
    """There is no such task."""

    code = "task_not_found"
