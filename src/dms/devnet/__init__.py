"""A whole network of real nodes on this machine, in one command.

:mod:`~dms.devnet.profile`    the file by which every other command finds the network
:mod:`~dms.devnet.plan`       directories, ports, shares of the machine: pure
:mod:`~dms.devnet.prepare`    keys, mutual trust, configuration, onboarding
:mod:`~dms.devnet.processes`  starting, watching and ending the nodes
:mod:`~dms.devnet.network`    up, status, down
"""
