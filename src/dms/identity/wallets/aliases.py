"""Names for the accounts of a Ledger device, ``<user_dir>/ledger_aliases.json`` (``spec/security.md`` 4.5)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dms.identity.errors import AliasNotFound, BadName
from dms.identity.files import check_name
from dms.identity.name_file import read_names, write_name
from dms.identity.wallets.ledger import MAX_ACCOUNT

FILE_NAME: Final = "ledger_aliases.json"
BAD_INDEX: Final = "index must be a non-negative integer"


class LedgerAliases:
    """The aliases of one user. ``clock_s`` is wall time, for the name of the copy that is kept of the file."""

    def __init__(self, user_dir: Path, *, clock_s: Callable[[], float] = time.time) -> None:
        self.path = user_dir / FILE_NAME
        self._clock_s = clock_s

    def all(self) -> dict[str, int]:
        """Every alias and its account.

        :raises BadNameFile: the file cannot be used.
        """
        return read_names(self.path, int)

    def set(self, alias: str, account: int) -> None:
        """Name an account.

        :raises BadName: the alias or the account cannot be used.
        """
        if ":" in alias or _is_number(alias):
            raise BadName(f"The alias {alias[:80]!r} cannot be used.", hint="an alias holds no ':' and is no number")
        write_name(self.path, check_name(alias), _checked(account), int, keep_as=f".{int(self._clock_s())}")

    def account(self, text: str) -> int:
        """The account that stands after ``ledger:``, a number or an alias; the empty text is account 0.

        :raises AliasNotFound: there is no such alias.
        :raises BadName: the number cannot be an account's.
        """
        if not text:
            return 0
        if _is_number(text):
            return _checked(int(text))
        account = self.all().get(text)
        if account is None:
            raise AliasNotFound(f"ledger alias not found: {text[:80]!r}")
        return _checked(account)


def parse_index(text: str) -> int:
    """The number of an account as a person gives it.

    :raises BadName: not a number, or not that of an account.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_ACCOUNT))):
        raise BadName(BAD_INDEX, hint=f"0 to {MAX_ACCOUNT}")
    return _checked(int(text))


def _checked(account: int) -> int:
    if not 0 <= account <= MAX_ACCOUNT:
        raise BadName(BAD_INDEX, hint=f"0 to {MAX_ACCOUNT}")
    return account


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-").removeprefix("+")
    return len(text) <= 20 and digits.isascii() and digits.isdigit()
