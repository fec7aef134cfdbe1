"""Who may do what: capability tokens, and the contexts that issue and judge them (``spec/security.md`` 3, 4).

:mod:`~dms.capability.token`         structure, encoding, signing
:mod:`~dms.capability.wire`          one level of a token as it travels
:mod:`~dms.capability.parsed`        tokens recognised by their bytes
:mod:`~dms.capability.paths`         what one capability path implies
:mod:`~dms.capability.verification`  whether a token is valid
:mod:`~dms.capability.rules`         what a valid token allows
:mod:`~dms.capability.decision`      a decision as data: which token, which rule, what was missing
:mod:`~dms.capability.token_set`     a set of tokens without useless ones
:mod:`~dms.capability.revocations`   what has been revoked
:mod:`~dms.capability.anchors`       whom a context trusts and what it was given
:mod:`~dms.capability.admission`     tokens of messages, and the decisions that rest on them
:mod:`~dms.capability.issuing`       tokens for messages and for others
:mod:`~dms.capability.leaves`        tokens for messages, used again
:mod:`~dms.capability.context`       all of it together
:mod:`~dms.capability.store`         contexts on disk
:mod:`~dms.capability.errors`        the tree of errors
"""
