"""Volumes, and where their content comes from and goes to (``spec/execution.md`` 5 and 6).

What the rest of the program calls:

:mod:`~dms.storage.service`     :func:`open_volumes`: all of it, put together for one node
:mod:`~dms.storage.prepare`     :class:`Volumes`: an allocation's volumes as directories of this machine, and clean-up
:mod:`~dms.storage.library`     :class:`Library`: downloads as volumes, volumes as uploads
:mod:`~dms.storage.controller`  :class:`VolumeController`: all volumes of this machine
:mod:`~dms.storage.ledger`      what is known of them, and who uses which
:mod:`~dms.storage.shelf`       where they lie
:mod:`~dms.storage.volume`      what is known of one
:mod:`~dms.storage.lookup`      which one somebody means
:mod:`~dms.storage.errors`      the tree of errors

Elsewhere:

:mod:`~dms.storage.transfer`    what every provider can do; bounds, progress, partial files
:mod:`~dms.storage.passing`     files passed from node to node
:mod:`~dms.storage.spec`        reading a provider's parameters
:mod:`~dms.storage.s3`          S3, with :mod:`~dms.storage.s3_client` and :mod:`~dms.storage.s3_params`
:mod:`~dms.storage.http`        HTTP and HTTPS
:mod:`~dms.storage.ipfs`        IPFS, with :mod:`~dms.storage.blocks`
:mod:`~dms.storage.web`         the HTTP client
:mod:`~dms.storage.egress`      which addresses may be reached
:mod:`~dms.storage.gate`        the same, for libraries that connect by themselves

On this machine:

:mod:`~dms.storage.room`        how much disk a workload's volumes take while it writes
:mod:`~dms.storage.tree`        directories of others, walked and written safely
:mod:`~dms.storage.archive`     unpacking what others packed
:mod:`~dms.storage.sealing`     volumes at rest, encrypted
:mod:`~dms.storage.local`       directories that the owner opens
:mod:`~dms.storage.gluster`     volumes of GlusterFS
:mod:`~dms.storage.mounts`      mounting
:mod:`~dms.storage.content`     the content id of a directory
:mod:`~dms.storage.unixfs`      how files become blocks, as IPFS does it
:mod:`~dms.storage.cid`         content ids
"""
