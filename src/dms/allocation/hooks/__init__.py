"""What surrounds a workload: one concern per module, called at fixed points of an allocation's life.

:mod:`~dms.allocation.hooks.hook`         the protocol
:mod:`~dms.allocation.hooks.results_dir`  the private directory with the logs, and how long it outlives the workload
:mod:`~dms.allocation.hooks.volumes`      storage that the workload sees
:mod:`~dms.allocation.hooks.disk_limit`   how much it may write there
:mod:`~dms.allocation.hooks.liveness`     signs of life to the orchestrator
"""
