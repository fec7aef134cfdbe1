"""What a process does again and again, at a time, or when something happens (``spec/platform.md`` 4).

:mod:`~dms.tasks.trigger`    when a task is due: intervals, cron, one moment, an event
:mod:`~dms.tasks.cron`       cron expressions in a time zone
:mod:`~dms.tasks.plan`       how a task runs: priority, retries, overlap, what was missed
:mod:`~dms.tasks.agenda`     the decisions, pure: fed with the time, answers what to run and when to wake
:mod:`~dms.tasks.scheduler`  the shell: one timer, one nursery
:mod:`~dms.tasks.errors`     the tree of errors
"""

from dms.tasks.agenda import Moment, Outcome, TaskID, TaskView
from dms.tasks.errors import BadCron, BadPlan, TaskNotFound
from dms.tasks.plan import Missed, Retry
from dms.tasks.scheduler import Scheduler
from dms.tasks.trigger import After, At, Cron, Fired, Interval, Trigger

__all__ = [
    "After",
    "At",
    "BadCron",
    "BadPlan",
    "Cron",
    "Fired",
    "Interval",
    "Missed",
    "Moment",
    "Outcome",
    "Retry",
    "Scheduler",
    "TaskID",
    "TaskNotFound",
    "TaskView",
    "Trigger",
]
