"""What would happen, and why something did not.

:mod:`~dms.orchestrator.explaining.planning`  bids and the best assignment, without deploying
:mod:`~dms.orchestrator.explaining.report`    what is told of it
:mod:`~dms.orchestrator.explaining.why`       who refused, what cannot be met together, what would mend it
"""
