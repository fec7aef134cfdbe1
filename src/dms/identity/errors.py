"""Errors of keys, identities and the keystore; texts as scripts know them (``spec/security.md`` 1.13, 2).

::

    DMSError
    └── IdentityError
        ├── InvalidDID              not did:<method>:<identifier>               (BadInput)
        ├── InvalidKey              bytes that are no key                       (BadInput)
        │   ├── InvalidKeyType      a kind of key that is unknown here
        │   └── UnexpectedKeyType   a kind that may not sign messages
        ├── BadCBOR                 bytes of a wallet that cannot be read       (BadInput)
        ├── InvalidPeerID           not a peer id that contains its key         (BadInput)
        ├── SignatureFailed         a signature does not fit                    (Denied)
        ├── NoProvider              no private key for this DID is open         (NotFound)
        ├── NoAnchorMethod          a DID method that cannot be resolved here   (BadInput)
        ├── UnresolvedDID           a DID whose key is not known (yet)          (Unavailable)
        │   ├── NoResolver          nobody to ask is configured
        │   └── ResolutionFailed    the resolver gave no usable key
        │       └── NotKnown        it does not know this DID
        ├── HardwareKey             the key does not leave its wallet           (Conflict)
        ├── WalletError             a wallet did not do what was asked          (Unavailable)
        │   ├── WalletMissing       its program is not installed
        │   └── BadWalletAnswer     its program answered something else
        ├── BadNameFile             a file of names that cannot be used         (BadInput)
        ├── AliasNotFound           no ledger account of this name              (NotFound)
        ├── PrismError              a did:prism could not be created            (Unavailable)
        └── KeystoreError
            ├── BadName             a name that cannot be a file name           (BadInput)
            ├── KeyNotFound         no key of this name                         (NotFound)
            ├── EmptyPassphrase     nothing given                               (BadInput)
            ├── PassphraseFailed    no usable passphrase was entered            (BadInput)
            ├── BadKeyFile          the file is damaged or foreign              (BadInput)
            │   ├── VersionMismatch
            │   └── CipherMismatch
            └── WrongPassphrase     the passphrase does not open the key        (Denied)
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, Denied, DMSError, NotFound, Unavailable


class IdentityError(DMSError):
    """The identity cannot be used."""

    code = "identity"


class InvalidDID(BadInput, IdentityError):
    """invalid DID"""

    code = "invalid_did"
    default_hint = "a DID looks like did:key:z6Mk…; `nunet key did NAME` prints yours"


class InvalidKey(BadInput, IdentityError):
    """invalid key"""

    code = "invalid_key"


class InvalidKeyType(InvalidKey):
    """invalid key type"""

    code = "invalid_key_type"


class UnexpectedKeyType(InvalidKey):
    """unexpected key type"""

    code = "unexpected_key_type"
    default_hint = "actors and peers use Ed25519 or Secp256k1 keys"


class BadCBOR(BadInput, IdentityError):
    """invalid CBOR"""

    code = "bad_cbor"


class InvalidPeerID(BadInput, IdentityError):
    """The peer id does not contain a public key."""

    code = "invalid_peer_id"
    default_hint = "peer ids of nodes start with 12D3KooW or 16Uiu2HAm"


class SignatureFailed(Denied, IdentityError):
    """signature verification failed"""

    code = "bad_signature"


class NoProvider(NotFound, IdentityError):
    """no provider"""

    code = "no_provider"
    default_hint = "the private key of this DID is not open in this process"


class NoAnchorMethod(BadInput, IdentityError):
    """no anchor method"""

    code = "no_anchor_method"
    default_hint = "only did:key and did:prism can be resolved"


class UnresolvedDID(Unavailable, IdentityError):
    """The key of this DID is not known."""

    code = "unresolved_did"


class NoResolver(UnresolvedDID):
    """no resolver is configured"""

    code = "no_resolver"
    default_hint = "name one: nunet config set identity.prism_resolver_url https://…"


class ResolutionFailed(UnresolvedDID):
    """The DID could not be resolved."""

    code = "resolution_failed"


class NotKnown(ResolutionFailed):
    """The resolver does not know this DID."""

    code = "did_not_known"


class HardwareKey(Conflict, IdentityError):
    """hardware key"""

    code = "hardware_key"
    default_hint = "the private key does not leave the wallet; a daemon needs a key of the keystore"


class WalletError(Unavailable, IdentityError):
    """The wallet did not do what was asked."""

    code = "wallet"


class WalletMissing(WalletError):
    """The program of the wallet is not installed."""

    code = "wallet_missing"
    retryable = False


class BadWalletAnswer(WalletError):
    """The program of the wallet gave an answer that cannot be used."""

    code = "bad_wallet_answer"
    retryable = False


class BadNameFile(BadInput, IdentityError):
    """The file of names cannot be used."""

    code = "bad_name_file"


class AliasNotFound(NotFound, IdentityError):
    """ledger alias not found"""

    code = "alias_not_found"
    default_hint = "set it with `nunet key ledger-alias set ALIAS INDEX`"


class PrismError(Unavailable, IdentityError):
    """The did:prism could not be created."""

    code = "prism"


class KeystoreError(IdentityError):
    """The keystore failed."""

    code = "keystore"


class BadName(BadInput, KeystoreError):
    """The name cannot be used."""

    code = "bad_name"
    default_hint = "use letters, digits, '-', '_' and '.'; no path separators, no '..', no leading '.'"


class KeyNotFound(NotFound, KeystoreError):
    """key not found on this node"""

    code = "key_not_found"


class EmptyPassphrase(BadInput, KeystoreError):
    """passphrase is empty"""

    code = "empty_passphrase"
    default_hint = "set DMS_PASSPHRASE or type one when asked"


class PassphraseFailed(BadInput, KeystoreError):
    """user failed to input passphrase"""

    code = "passphrase_failed"
    default_hint = "set DMS_PASSPHRASE where nobody can type"


class BadKeyFile(BadInput, KeystoreError):
    """failed to decode key"""

    code = "bad_key_file"


class VersionMismatch(BadKeyFile):
    """version mismatch"""

    code = "key_version_mismatch"


class CipherMismatch(BadKeyFile):
    """cipher mismatch"""

    code = "key_cipher_mismatch"


class WrongPassphrase(Denied, KeystoreError):
    """mac mismatch"""

    code = "wrong_passphrase"
    default_hint = "the passphrase is wrong, or the key file is damaged"
