"""Deployments: from a submitted ensemble to running allocations on other people's machines, and to their end.

:mod:`~dms.orchestrator.deployments`  all deployments of this node
:mod:`~dms.orchestrator.deployment`   one deployment alive; its :mod:`~dms.orchestrator.inbox`,
                                      its :mod:`~dms.orchestrator.orders`
:mod:`~dms.orchestrator.lifecycle`    the decisions, pure: events in, state and instructions out
:mod:`~dms.orchestrator.bidding`      who would host what
:mod:`~dms.orchestrator.matching`     which peer hosts which node, pure
:mod:`~dms.orchestrator.effects`      what is asked of others: reservations, starts, the end
:mod:`~dms.orchestrator.supervision`  whether what runs still runs
:mod:`~dms.orchestrator.scheduling`   waiting, durations, schedules
:mod:`~dms.orchestrator.explaining`   plans, and answers to "why not?"
:mod:`~dms.orchestrator.logs`         output of allocations
:mod:`~dms.orchestrator.journal`      what is kept on disk
:mod:`~dms.orchestrator.messages`     payloads between orchestrators and providers
"""
