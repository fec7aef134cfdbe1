"""Keys that stay in a wallet: another program asks its owner and signs (``spec/security.md`` 1.10, 1.11, 4.5).

:mod:`~dms.identity.wallets.ledger`   a Ledger device through ``ledger-cli``
:mod:`~dms.identity.wallets.eternl`   an Eternl wallet through ``eternl-cli``
:mod:`~dms.identity.wallets.program`  running such a program: time limit, bounded output
:mod:`~dms.identity.wallets.names`    which context names mean a wallet
:mod:`~dms.identity.wallets.aliases`  names for the accounts of a Ledger device
"""
