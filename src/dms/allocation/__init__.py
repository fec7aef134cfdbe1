"""The allocation: one workload on one machine, as an actor with a life of its own.

:mod:`~dms.allocation.machine`     its states, pure
:mod:`~dms.allocation.allocation`  the actor that carries them out
:mod:`~dms.allocation.spec`        what it is told when it is made
:mod:`~dms.allocation.membership`  its place in its private network
:mod:`~dms.allocation.answering`   how long an order to start is waited for
:mod:`~dms.allocation.networks`    what it needs of private networks
:mod:`~dms.allocation.health`      whether the workload is well
:mod:`~dms.allocation.hooks`       what surrounds the workload, one concern per module
:mod:`~dms.allocation.messages`    what it answers to
"""
