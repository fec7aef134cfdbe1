"""The composition root: builds a running service from its settings, and stops it in order.

:mod:`~dms.app.service`   the whole: what is opened after what, and that it is closed the other way round
:mod:`~dms.app.identity`  who the node is: its key, its capabilities
:mod:`~dms.app.work`      what workloads need: volumes, executors, plugins
:mod:`~dms.app.care`      what looks after the node: settings that change, outputs, health, the database
:mod:`~dms.app.options`   settings as each part wants them

Nobody else knows the whole.
"""

from dms.app.service import Ready, serve

__all__ = ["Ready", "serve"]
