"""Who may do what: capability tokens, and the contexts that issue and judge them (``spec/security.md`` 3, 4).

:mod:`~dms.capability.token`    structure, encoding, signing, verification
:mod:`~dms.capability.paths`    what one capability path implies
:mod:`~dms.capability.rules`    what a verified token allows
:mod:`~dms.capability.anchors`  a set of tokens without useless ones
:mod:`~dms.capability.context`  anchors, tokens of messages, issuing
:mod:`~dms.capability.denial`   why somebody was denied
:mod:`~dms.capability.store`    contexts on disk
:mod:`~dms.capability.errors`   the tree of errors
"""
