"""Volumes and where their content comes from and goes to.

:mod:`~dms.storage.controller`  :class:`VolumeController`: all volumes of this machine
:mod:`~dms.storage.volume`      what is known of one
:mod:`~dms.storage.tree`        directories of others, walked and written safely
:mod:`~dms.storage.content`     the content id of a directory
:mod:`~dms.storage.unixfs`      how files become blocks, as IPFS does it
:mod:`~dms.storage.cid`         content ids
:mod:`~dms.storage.archive`     unpacking what others packed
:mod:`~dms.storage.sealing`     volumes at rest, encrypted
:mod:`~dms.storage.errors`      the tree of errors
"""
