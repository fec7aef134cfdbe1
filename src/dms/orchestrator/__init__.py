"""Deployments: from a submitted ensemble to running allocations on other people's machines, and to their end.

:mod:`~dms.orchestrator.machine`      the decisions, pure: events in, state and instructions out
:mod:`~dms.orchestrator.matching`     which peer hosts which node, pure
:mod:`~dms.orchestrator.state`        what is known of one deployment
:mod:`~dms.orchestrator.effects`      what is asked of others: bids, reservations, starts, logs, the end
:mod:`~dms.orchestrator.deployment`   one deployment alive
:mod:`~dms.orchestrator.deployments`  all deployments of this node
:mod:`~dms.orchestrator.terms`        how long it may wait, how long it shall run
:mod:`~dms.orchestrator.queueing`     waiting for capacity
:mod:`~dms.orchestrator.schedules`    ensembles deployed at times
:mod:`~dms.orchestrator.journal`      what is kept on disk
:mod:`~dms.orchestrator.bid`          the signed offer
:mod:`~dms.orchestrator.messages`     payloads between orchestrators and providers
"""
