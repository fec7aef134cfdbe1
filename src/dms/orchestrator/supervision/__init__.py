"""Whether what runs still runs.

:mod:`~dms.orchestrator.supervision.supervisor`  watches the allocations of one deployment
:mod:`~dms.orchestrator.supervision.health`      the checks that they name
:mod:`~dms.orchestrator.supervision.peer_watch`  whether machines still answer
:mod:`~dms.orchestrator.supervision.suspicion`   when silence is death (Lifeguard)
"""
