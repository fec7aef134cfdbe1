"""Fetches the documents of did:prism identities over HTTP (``spec/security.md`` 1.12)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from dms.identity.errors import NoResolver, NotKnown, ResolutionFailed
from dms.identity.ids import DID, PRISM_METHOD
from dms.identity.keys import PublicKey
from dms.identity.prism.document import Relationship, key_of_document
from dms.identity.prism.http import Failed, ask

_ACCEPT: Final = "application/did+json,application/json"
_OK, _NOT_FOUND = 200, 404
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


class PrismResolver:
    """Asks one service.

    :param base_url: address of the service, to which ``/api/dids/<DID>`` is added.
    :param relationship: what the key must be for.
    """

    def __init__(self, base_url: str, relationship: Relationship = Relationship.AUTHENTICATION) -> None:
        self._base_url = base_url.rstrip("/")
        self._relationship = relationship

    async def fetch_key(self, did: DID) -> PublicKey:
        """The key that signs for ``did`` now.

        :raises NotKnown: there is no such DID, or not yet.
        :raises ResolutionFailed: the service gave no usable document.
        :raises NoResolver: a DID of another method.
        """
        identifier = did.uri.removeprefix(f"did:{PRISM_METHOD}:")
        if did.method != PRISM_METHOD:
            raise NoResolver(f"no resolver is configured for {did.uri[:80]}")
        if not _IDENTIFIER.fullmatch(identifier):
            raise ResolutionFailed(f"{did.uri[:80]!r} is no did:prism")
        url = f"{self._base_url}/api/dids/{quote(did.uri, safe=':')}"
        try:
            answer = await ask("GET", url, headers={"Accept": _ACCEPT})
        except Failed as exc:
            raise ResolutionFailed(f"{did.uri[:80]} cannot be resolved at {self._base_url}: {exc}") from None
        if answer.status == _NOT_FOUND:
            raise NotKnown(f"{self._base_url} does not know {did.uri[:80]}")
        if answer.status != _OK:
            raise ResolutionFailed(
                f"{did.uri[:80]} cannot be resolved at {self._base_url}: the answer has status {answer.status}"
            )
        return key_of_document(answer.body, did, self._relationship)
