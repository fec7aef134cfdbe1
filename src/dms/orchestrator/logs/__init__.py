"""Output of allocations, wherever they ran.

:mod:`~dms.orchestrator.logs.finding`  asks the providers, past and present
:mod:`~dms.orchestrator.logs.reading`  those of a deployment alive
:mod:`~dms.orchestrator.logs.jobs`     long collections in the background
"""
