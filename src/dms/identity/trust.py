"""Who can sign here, and how a DID's signatures are checked (``spec/security.md`` 1.9).

A *provider* signs for a DID; an *anchor* verifies what a DID has signed. did:key anchors are contained in the DID, so
nothing has to be fetched or to expire.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from dms.identity.errors import NoProvider
from dms.identity.ids import DID, did_of, public_key_of_did
from dms.identity.keys import PrivateKey, PublicKey

_VERIFIED_CACHE: Final = 8192


@dataclass(frozen=True, slots=True)
class Provider:
    """Signs for ``did`` with a key that is open in this process."""

    did: DID
    private_key: PrivateKey = field(repr=False)

    @classmethod
    def of_key(cls, key: PrivateKey) -> Provider:
        """The provider of the did:key of ``key``."""
        return cls(did_of(key.public), key)

    def sign(self, message: bytes) -> bytes:
        """The signature over ``message``."""
        return self.private_key.sign(message)

    @property
    def anchor(self) -> Anchor:
        """What verifies this provider's signatures."""
        return Anchor(self.did, self.private_key.public)


@dataclass(frozen=True, slots=True)
class Anchor:
    """Verifies for ``did``."""

    did: DID
    public_key: PublicKey

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether ``did`` signed ``message``.

        :raises InvalidKeyType: signatures of this kind of key cannot be verified here.
        """
        return self.public_key.verify(message, signature)


class TrustContext:
    """The providers of this process, and the anchors of everybody."""

    def __init__(self, *providers: Provider) -> None:
        self._providers = {provider.did: provider for provider in providers}
        self._verified: dict[bytes, None] = {}

    def add_provider(self, provider: Provider) -> None:
        """Sign for ``provider.did`` from now on."""
        self._providers[provider.did] = provider

    def provider(self, did: DID) -> Provider:
        """:raises NoProvider: nobody here signs for ``did``."""
        try:
            return self._providers[did]
        except KeyError:
            raise NoProvider(f"no provider for {did.uri or 'the empty DID'}") from None

    def anchor(self, did: DID) -> Anchor:
        """The anchor of any DID that can be resolved.

        :raises NoAnchorMethod: a DID of an unknown method.
        :raises InvalidDID: damaged.
        """
        return Anchor(did, public_key_of_did(did))

    def remember(self, digest: bytes) -> None:
        """Note that the statement with this SHA-256, signatures included, was verified; the oldest is forgotten."""
        if len(self._verified) >= _VERIFIED_CACHE:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = None

    def remembers(self, digest: bytes) -> bool:
        """Whether that statement was verified before."""
        return digest in self._verified
