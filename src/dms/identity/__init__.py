"""Who is who: keys, the names made from them, the keystore, and who signs for whom (``spec/security.md`` 1, 2).

:mod:`~dms.identity.keys`        public and private keys, serialised form, signatures
:mod:`~dms.identity.secp256k1`   ECDSA as libp2p and Ethereum use it
:mod:`~dms.identity.ids`         DIDs, actor ids, peer ids and the ways between them
:mod:`~dms.identity.trust`       providers sign for a DID, anchors verify
:mod:`~dms.identity.keystore`    encrypted key files
:mod:`~dms.identity.passphrase`  from the environment or a person
:mod:`~dms.identity.files`       atomic private files, safe names
:mod:`~dms.identity.errors`      the tree of errors
"""
