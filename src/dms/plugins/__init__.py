"""Parts that others bring: executors, storage, graphics processors of more vendors, listeners to events.

:mod:`~dms.plugins.contract`  what a plugin is given, and what it gives
:mod:`~dms.plugins.finding`   the plugins that are installed, and why some of them are not used
:mod:`~dms.plugins.guard`     between a plugin and the node: what fails in there fails there
:mod:`~dms.plugins.running`   the plugins of a running node

A plugin is a Python package that declares entry points in one of the groups of
:data:`~dms.plugins.contract.GROUPS`; ``examples/plugin`` is one. It is trusted as the node itself is: it runs in its process.
"""
