"""What happens to a deployment, decided: events in, state and instructions out. Pure, no I/O, no clock.

:mod:`~dms.orchestrator.lifecycle.machine`     the table of phases
:mod:`~dms.orchestrator.lifecycle.state`       what is known of one deployment
:mod:`~dms.orchestrator.lifecycle.events`      what can happen, and what can be asked for
:mod:`~dms.orchestrator.lifecycle.changes`     the small steps from one state to the next
:mod:`~dms.orchestrator.lifecycle.recovery`    what is done about a failure
:mod:`~dms.orchestrator.lifecycle.placing`     a node that is placed while the others run
:mod:`~dms.orchestrator.lifecycle.neighbours`  nodes that stay, and the edges to them
:mod:`~dms.orchestrator.lifecycle.remedies`    what is done when nothing smaller helps
:mod:`~dms.orchestrator.lifecycle.strategies`  who is restarted with whom
:mod:`~dms.orchestrator.lifecycle.standby`     the names of places that wait to take over
"""
