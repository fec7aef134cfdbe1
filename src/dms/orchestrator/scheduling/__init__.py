"""When a deployment begins, and how long it may take.

:mod:`~dms.orchestrator.scheduling.terms`      how long it may wait and run
:mod:`~dms.orchestrator.scheduling.queueing`   waiting for capacity, in turn
:mod:`~dms.orchestrator.scheduling.schedule`   one ensemble deployed at times
:mod:`~dms.orchestrator.scheduling.schedules`  all of this node
"""
