"""What can be wrong with a node: the declared warnings. ``docs/how-to/check-health.md`` lists them."""

from __future__ import annotations

from typing import Final

from dms.observe.health import Severity, Warnable

NO_PEERS: Final = Warnable(
    code="no_peers",
    severity=Severity.WARNING,
    text="the node is connected to nobody",
    hint="check p2p.bootstrap_peers and the firewall; nunet doctor tells more",
    delay_s=60.0,
)
CLOCK_JUMPED: Final = Warnable(
    code="clock_jumped",
    severity=Severity.WARNING,
    text="the clock of this machine was set, or the machine slept",
    hint="see who sets it; messages and tokens of the time between may have been refused",
)
CLOCK_WRONG: Final = Warnable(
    code="clock_wrong",
    severity=Severity.ERROR,
    text="the clock of this machine is not that of its peers",
    hint="let something keep the clock right, such as chrony or systemd-timesyncd",
    silenced_by=("no_peers",),
)
CLOCK_UNKEPT: Final = Warnable(
    code="clock_unkept",
    severity=Severity.NOTE,
    text="nothing keeps the clock of this machine right, as far as its kernel knows",
    hint="let something keep the clock right, such as chrony or systemd-timesyncd",
    delay_s=300.0,
    silenced_by=("clock_wrong",),
)
DISK_FULL: Final = Warnable(
    code="disk_full",
    severity=Severity.ERROR,
    text="there is hardly any room left on the disk",
    hint="free space where general.work_dir lies, or move it; nunet volume prune frees volumes",
)
DISK_LOW: Final = Warnable(
    code="disk_low",
    severity=Severity.WARNING,
    text="there is little room left on the disk",
    hint="free space where general.work_dir lies; nunet volume prune frees volumes",
    delay_s=60.0,
    silenced_by=("disk_full",),
)
DATABASE_FAILS: Final = Warnable(
    code="database_fails",
    severity=Severity.ERROR,
    text="the database does not answer",
    hint="see the log; nunet db check tells more",
    silenced_by=("disk_full",),
)
NO_EXECUTOR: Final = Warnable(
    code="no_executor",
    severity=Severity.ERROR,
    text="this machine offers resources and can run nothing",
    hint="install Docker or qemu, and start the node again",
)
TASK_FAILS: Final = Warnable(
    code="task_fails",
    severity=Severity.WARNING,
    text="something that the node does again and again fails",
    hint="see the log for the reason",
    delay_s=30.0,
    silenced_by=("database_fails", "disk_full"),
)
RESTART_NEEDED: Final = Warnable(
    code="restart_needed",
    severity=Severity.NOTE,
    text="settings were changed that hold only after a restart",
    hint="start the node again",
)
GRANT_ENDS: Final = Warnable(
    code="grant_ends",
    severity=Severity.NOTE,
    text="a grant ends soon",
    hint="ask who gave it for a new one, and anchor it: nunet cap anchor",
)

LOG_LOST: Final = Warnable(
    code="log_lost",
    severity=Severity.WARNING,
    text="the log file cannot be written",
    hint="see whether its disk is full and who may write there; nunet logger names another file",
    silenced_by=("disk_full",),
)
OUTPUT_FAILS: Final = Warnable(
    code="output_fails",
    severity=Severity.NOTE,
    text="what shall be told to others is not taken",
    hint="see whether the receiver answers, and its address and key: nunet config get observability",
    delay_s=60.0,
)
PLUGIN_FAILS: Final = Warnable(
    code="plugin_fails",
    severity=Severity.WARNING,
    text="a plugin is not used",
    hint="see the log for the reason; nunet plugin list, plugins.disabled",
)

WARNINGS: Final = (
    NO_PEERS,
    CLOCK_JUMPED,
    CLOCK_WRONG,
    CLOCK_UNKEPT,
    DISK_FULL,
    DISK_LOW,
    DATABASE_FAILS,
    NO_EXECUTOR,
    TASK_FAILS,
    RESTART_NEEDED,
    GRANT_ENDS,
    LOG_LOST,
    OUTPUT_FAILS,
    PLUGIN_FAILS,
)
