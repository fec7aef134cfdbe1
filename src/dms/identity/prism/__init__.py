"""did:prism: identities whose keys stand in a ledger and can be changed (``spec/security.md`` 1.12).

:mod:`~dms.identity.prism.document`      which key of a DID document signs
:mod:`~dms.identity.prism.http`          one bounded request
:mod:`~dms.identity.prism.resolver`      fetching documents
:mod:`~dms.identity.prism.operation`     the signed operation that creates a DID
:mod:`~dms.identity.prism.creation`      submitting it, waiting until it can be resolved
:mod:`~dms.identity.prism.associations`  which key of the keystore signs for which did:prism
"""
