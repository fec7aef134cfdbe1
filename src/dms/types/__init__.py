"""What every other package shares: canonical JSON, units, wire types of resources, identifiers, the root of errors.

:mod:`~dms.types.gojson`       bytes exactly as Go writes them, and tolerant reading
:mod:`~dms.types.units`        ``512MiB``, ``2.4 GHz``, ``1h30m``
:mod:`~dms.types.resources`    CPU, RAM, disk, GPU, location, engine parameters
:mod:`~dms.types.ids`          identifiers as types
:mod:`~dms.types.traceparent`  where in a trace a message stands
:mod:`~dms.types.errors`       :class:`DMSError` and the exit codes
"""
