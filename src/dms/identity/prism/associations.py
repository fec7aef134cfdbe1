"""Which key of the keystore signs for which did:prism, ``<user_dir>/prism_did_map.json`` (``spec/security.md`` 1.12)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dms.identity.errors import BadNameFile, InvalidDID
from dms.identity.files import check_name
from dms.identity.ids import DID, PRISM_METHOD
from dms.identity.name_file import read_names, remove_name, write_name

FILE_NAME: Final = "prism_did_map.json"
_COPY_SUFFIX: Final = ".bak"


class PrismAssociations:
    """The associations of one user."""

    def __init__(self, user_dir: Path) -> None:
        self.path = user_dir / FILE_NAME

    def all(self) -> dict[str, DID]:
        """Every key name and its DID.

        :raises BadNameFile: the file cannot be used.
        """
        try:
            return {name: parse_prism_did(uri) for name, uri in read_names(self.path, str).items()}
        except InvalidDID as exc:
            raise BadNameFile(f"cannot use {self.path}: {exc.message}") from None

    def get(self, name: str) -> DID | None:
        """The did:prism of a key, if it has one.

        :raises BadNameFile: the file cannot be used.
        """
        return self.all().get(name)

    def set(self, name: str, did: DID) -> None:
        """Let the key sign for this DID; the file as it was is kept as a copy.

        :raises BadNameFile: the present file cannot be used.
        """
        write_name(self.path, check_name(name), did.uri, str, keep_as=_COPY_SUFFIX)

    def remove(self, name: str) -> None:
        """Let the key sign for its did:key again, as after it was replaced by another.

        :raises BadNameFile: the present file cannot be used.
        """
        remove_name(self.path, name, str, keep_as=_COPY_SUFFIX)


def parse_prism_did(text: str) -> DID:
    """Read a did:prism.

    :raises InvalidDID: something else.
    """
    did = DID.parse(text)
    if did.method != PRISM_METHOD:
        raise InvalidDID(f"invalid DID: {text[:80]!r} is no did:prism", hint="it looks like did:prism:4f3a…")
    return did
