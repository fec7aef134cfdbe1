"""A whole network of real nodes on this machine, in one command.

:mod:`~dms.devnet.profile`       the file by which every other command finds the network
:mod:`~dms.devnet.plan`          ports, directories, shares of the machine
:mod:`~dms.devnet.directory`     the directory: taken by one command at a time, removed only if ours
:mod:`~dms.devnet.prepare`       keys, mutual trust, configuration, onboarding
:mod:`~dms.devnet.processes`     starting, finding, watching and ending the nodes
:mod:`~dms.devnet.interruption`  Ctrl-C at the right moments
:mod:`~dms.devnet.network`       up, status, down
"""
