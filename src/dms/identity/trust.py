"""Who can sign here, and how a DID's signatures are checked (``spec/security.md`` 1.9).

A *provider* signs for a DID; an *anchor* verifies what a DID has signed. The key of a did:key is contained in it, so
nothing has to be fetched or to expire. That of a did:prism must be resolved before it can be used: verification itself
never waits for a network.
"""

from __future__ import annotations

import functools
import re
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from dms.identity.errors import HardwareKey, NoProvider, UnresolvedDID
from dms.identity.ids import DID, PRISM_METHOD, did_of, public_key_of_did
from dms.identity.keys import PrivateKey, PublicKey
from dms.identity.resolution import FetchedKeys, Resolver

FETCHED_METHODS: Final = frozenset({PRISM_METHOD})
"""DID methods whose keys must be fetched."""
_KEY_PREFIX: Final = "did:key:"
RESOLVE_TIMEOUT_S: Final = 5.0
MAX_UNRESOLVED: Final = 4
"""DIDs that one message may make us ask for."""
FILE_TIMEOUT_S: Final = 20.0
_FETCHED_DID: Final = re.compile(rb"did:prism:[A-Za-z0-9._-]{1,128}")
MAX_VERIFIED: Final = 81_920
"""Digests; more than a context holds anchors and revocations, so that a file read again costs no signature."""
_ANCHOR_CACHE: Final = 4096


class Provider(ABC):
    """Signs for a DID: with a key that is open in this process, or through a wallet."""

    @staticmethod
    def of_key(key: PrivateKey, did: DID | None = None) -> KeyProvider:
        """The provider of the did:key of ``key``, or of another DID that has this key."""
        return KeyProvider(did or did_of(key.public), key)

    @property
    @abstractmethod
    def did(self) -> DID:
        """Whom it signs for."""

    @abstractmethod
    def sign(self, message: bytes) -> bytes:
        """The signature over ``message``. A wallet asks its owner first, which takes a while.

        :raises WalletError: the wallet did not sign.
        """

    @property
    @abstractmethod
    def anchor(self) -> Anchor:
        """What verifies this provider's signatures."""

    def export(self) -> PrivateKey:
        """The private key, where there is one to be had.

        :raises HardwareKey: it does not leave the wallet.
        """
        raise HardwareKey


@dataclass(frozen=True, slots=True)
class KeyProvider(Provider):
    """Signs with a key that is open in this process. ``owner`` is the did:key of the key, or a did:prism with it."""

    owner: DID
    private_key: PrivateKey = field(repr=False)

    @property
    def did(self) -> DID:
        """Whom it signs for."""
        return self.owner

    def sign(self, message: bytes) -> bytes:
        """The signature over ``message``."""
        return self.private_key.sign(message)

    @property
    def anchor(self) -> Anchor:
        """What verifies this provider's signatures."""
        return Anchor(self.owner, self.private_key.public)

    def export(self) -> PrivateKey:
        """The private key."""
        return self.private_key


@dataclass(frozen=True, slots=True)
class Anchor:
    """Verifies for ``did``."""

    did: DID
    public_key: PublicKey

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether ``did`` signed ``message``; a malformed signature does not fit."""
        return self.public_key.verify(message, signature)


class TrustContext:
    """The providers of this process, and the anchors of everybody.

    :param resolver: fetches the keys of DIDs that do not contain them; without one these stay unresolved.
    :param clock_s: seconds, never going back; measures the lifetime of what was fetched.
    """

    def __init__(
        self, *providers: Provider, resolver: Resolver | None = None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._providers = {provider.did: provider for provider in providers}
        self._fetched = FetchedKeys(resolver, clock_s)
        self._verified: OrderedDict[bytes, None] = OrderedDict()

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
        """The anchor of a DID whose key is known: at once, never waiting.

        :raises UnresolvedDID: :meth:`resolve` it first.
        :raises NoAnchorMethod: a DID of an unknown method.
        :raises InvalidDID: damaged.
        """
        uri = did.uri
        if uri.startswith(_KEY_PREFIX) or not _must_be_fetched(did):
            return _anchor_of_text(uri)
        if did in self._providers:
            return self._providers[did].anchor
        if (key := self._fetched.get(did)) is not None:
            return Anchor(did, key)
        failure = self._fetched.failure(did)
        raise UnresolvedDID(f"{did.uri[:80]} is not resolved{f': {failure.message}' if failure else ''}")

    def is_resolved(self, did: DID) -> bool:
        """Whether :meth:`anchor` needs no :meth:`resolve` first; true for what can never be resolved."""
        return not _must_be_fetched(did) or did in self._providers or self._fetched.get(did) is not None

    async def resolve(self, did: DID, *, timeout_s: float = RESOLVE_TIMEOUT_S) -> Anchor:
        """The anchor of a DID, whose key is fetched if it must be.

        :raises UnresolvedDID: the key cannot be had in time.
        :raises NoAnchorMethod: a DID of an unknown method.
        :raises InvalidDID: damaged.
        """
        if self.is_resolved(did):
            return self.anchor(did)
        return Anchor(did, await self._fetched.fetch(did, timeout_s))

    async def resolve_all(self, dids: Iterable[DID], *, timeout_s: float = RESOLVE_TIMEOUT_S) -> None:
        """Fetch, side by side, the keys that ``dids`` still need; :meth:`anchor` tells of each that cannot be had.

        :raises UnresolvedDID: more than :data:`MAX_UNRESOLVED` would have to be fetched; none was.
        """
        missing = list(dict.fromkeys(did for did in dids if not self.is_resolved(did)))
        if not missing:
            return
        if len(missing) > MAX_UNRESOLVED:
            raise UnresolvedDID(f"{len(missing)} DIDs are not resolved, more than {MAX_UNRESOLVED}")
        import trio  # here, because clients that fetch nothing would spend a tenth of a second on it

        async with trio.open_nursery() as nursery:
            for did in missing:
                nursery.start_soon(self._try_to_fetch, did, timeout_s)

    async def resolve_mentioned(self, text: bytes, *, timeout_s: float = FILE_TIMEOUT_S) -> None:
        """Fetch the keys of every DID that occurs in a file of our own, such as a context; a few at a time."""
        import trio  # see above

        mentioned = fetched_dids_in(text)
        with trio.move_on_after(timeout_s):
            for begin in range(0, len(mentioned), MAX_UNRESOLVED):
                await self.resolve_all(mentioned[begin : begin + MAX_UNRESOLVED])

    def remember(self, digest: bytes) -> None:
        """Note that the statement with this SHA-256, signatures included, was verified; the oldest is forgotten."""
        if len(self._verified) >= MAX_VERIFIED:
            self._verified.popitem(last=False)
        self._verified[digest] = None

    def remembers(self, digest: bytes) -> bool:
        """Whether that statement was verified before, with keys that are still to be used."""
        if self._fetched.drop_expired():
            self._verified.clear()  # which of them rest on a key that is now too old is not known
        return digest in self._verified

    async def _try_to_fetch(self, did: DID, timeout_s: float) -> None:
        try:
            await self._fetched.fetch(did, timeout_s)
        except UnresolvedDID:
            return


@functools.lru_cache(maxsize=_ANCHOR_CACHE)
def _anchor_of_text(uri: str) -> Anchor:
    did = DID(uri=uri)
    return Anchor(did, public_key_of_did(did))


def fetched_dids_in(text: bytes) -> list[DID]:
    """The DIDs in a text whose keys must be fetched, each once, in order."""
    return [DID(uri=uri.decode()) for uri in dict.fromkeys(_FETCHED_DID.findall(text))]


def _must_be_fetched(did: DID) -> bool:
    return not did.uri.startswith(_KEY_PREFIX) and did.method in FETCHED_METHODS
