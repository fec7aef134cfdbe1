"""Actors: signed messages between inboxes, each authorised by the capabilities that it carries.

The actor: :mod:`~dms.actor.actor` itself, :mod:`~dms.actor.handle` (who it is and where it receives),
:mod:`~dms.actor.behaviour` (what it answers to), :mod:`~dms.actor.security` (tokens out, tokens in).

A message: :mod:`~dms.actor.envelope`; its way in is :mod:`~dms.actor.inbox`, behind the :mod:`~dms.actor.gate` that all
inboxes share: :mod:`~dms.actor.fairness` (turns), :mod:`~dms.actor.rates` and :mod:`~dms.actor.limiter` (how much over time
and at once), :mod:`~dms.actor.replay` with :mod:`~dms.actor.replay_file` (what was seen before), :mod:`~dms.actor.standing`
and :mod:`~dms.actor.refusal` (who is told why it was refused).

Its life: :mod:`~dms.actor.children`, :mod:`~dms.actor.supervision` (who is run again), :mod:`~dms.actor.grants` (what others
may do meanwhile), :mod:`~dms.actor.health`.
"""
