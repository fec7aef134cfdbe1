"""The private network of an ensemble, as its orchestrator sees it (``spec/orchestration.md`` 3.7, 5.4).

:mod:`~dms.orchestrator.private_network.plan`     who has which address, what each machine must know; pure
:mod:`~dms.orchestrator.private_network.telling`  the machines are told, again whenever it changes
"""
