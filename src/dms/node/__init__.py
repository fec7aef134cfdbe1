"""The node: the root actor of a machine and everything that answers on it.

:mod:`~dms.node.node`          puts it together and runs it
:mod:`~dms.node.public`        what anybody may ask
:mod:`~dms.node.peers`         who is connected
:mod:`~dms.node.machine`       onboarding, resources, hardware
:mod:`~dms.node.deployments`   deployment control by users
:mod:`~dms.node.provider`      the provider's side: bid, commit, allocate, revert, logs, shutdown
:mod:`~dms.node.bidding`       whether to bid, and why not
:mod:`~dms.node.reservations`  what is reserved, and for whom
:mod:`~dms.node.hosting`       the allocations that run here; what their orchestrators are told: :mod:`~dms.node.hosting_reports`
:mod:`~dms.node.capabilities`  anchors and decisions of the running node
:mod:`~dms.node.capability_file`  its anchors on disk, which the command line changes, too
:mod:`~dms.node.revocation_spread`  revocations that come, go on, and were missed; :mod:`~dms.node.revocations` chooses
:mod:`~dms.node.payloads`      the payloads of all that; of some families they stand in a module apart (``…_payloads``),
                               so that clients need not load what answers them
"""
