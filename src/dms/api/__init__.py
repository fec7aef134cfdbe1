"""The REST server on loopback: a bridge for signed envelopes, and health (``spec/orchestration.md`` 10).

:mod:`~dms.api.routes`  the routes
:mod:`~dms.api.openapi` their description for programs
:mod:`~dms.api.server`  the server that runs them
:mod:`~dms.api.bridge`  what the routes do: forward an envelope, wait for the answers
"""
