"""Actors: signed messages between inboxes, each authorised by the capabilities that it carries.

:mod:`~dms.actor.handle`     who an actor is and where it receives
:mod:`~dms.actor.envelope`   the signed message
:mod:`~dms.actor.security`   tokens out, tokens in, dynamic grants
:mod:`~dms.actor.behaviour`  names, what they require, what a handler sees
:mod:`~dms.actor.limiter`    how much may run at once
:mod:`~dms.actor.replay`     what was seen before
:mod:`~dms.actor.actor`      the actor itself
"""
