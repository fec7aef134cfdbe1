"""The job format: from the file that a user writes to the canonical object that travels (``spec/ensemble.md``).

:mod:`~dms.ensemble.config`        the canonical structures
:mod:`~dms.ensemble.ids`           identifiers of ensembles and allocations
:mod:`~dms.ensemble.groups`        nodes with a count; :mod:`~dms.ensemble.classes`: nodes that ask for the same
:mod:`~dms.ensemble.requirements`  what a node of an ensemble asks of a machine
:mod:`~dms.ensemble.loading`       a user's file, with all problems and their lines
:mod:`~dms.ensemble.changes`       what a new version changes, and what it may not
:mod:`~dms.ensemble.rendering`     back to a file; :mod:`~dms.ensemble.writing`: YAML with comments
:mod:`~dms.ensemble.arrival`       what arrives at a node
:mod:`~dms.ensemble.translate`     job files of other systems
:mod:`~dms.ensemble.samples`       commented ensembles to begin with
:mod:`~dms.ensemble.manifest`      the state of a deployment, as told to users
:mod:`~dms.ensemble.schema`        the format as JSON schema
:mod:`~dms.ensemble.format`        the format as a table; :mod:`~dms.ensemble.rules`: how its parts fit together
:mod:`~dms.ensemble.texts`, :mod:`~dms.ensemble.machine_format`  the parts of that table: names and texts, machines
:mod:`~dms.ensemble.problem`       one thing that is wrong, with its place and a hint
:mod:`~dms.ensemble.errors`        the errors
"""
