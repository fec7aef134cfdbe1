"""The job format: from the file that a user writes to the canonical object that travels (``spec/ensemble.md``).

:mod:`~dms.ensemble.config`        the canonical structures
:mod:`~dms.ensemble.ids`           identifiers of ensembles and allocations
:mod:`~dms.ensemble.requirements`  what a node of an ensemble asks of a machine
:mod:`~dms.ensemble.problem`       one thing that is wrong, with its place and a hint
:mod:`~dms.ensemble.errors`        the errors
"""
