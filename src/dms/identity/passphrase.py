"""Where a passphrase comes from: the environment, else a person (``spec/security.md`` 2).

How a person is asked is the caller's business; nothing here touches a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from dms.identity.errors import PassphraseFailed

VARIABLE: Final = "DMS_PASSPHRASE"
PROMPT: Final = "Passphrase: "
CONFIRM_PROMPT: Final = "Please confirm your passphrase: "
MISMATCH: Final = "passphrases do not match"
TRIES: Final = 3


def read_passphrase(
    environ: Mapping[str, str],
    ask: Callable[[str], str],
    *,
    confirm: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> str:
    """The passphrase from ``DMS_PASSPHRASE`` if that is not empty, else from ``ask(prompt)``, three tries.

    :param confirm: ask twice, for a new key.
    :param tell: is given what was wrong with a try.
    :raises PassphraseFailed: three empty or unequal tries.
    """
    if given := environ.get(VARIABLE, ""):
        return given
    for _ in range(TRIES):
        passphrase = ask(PROMPT)
        if not passphrase:
            tell("passphrase is empty")
        elif confirm and ask(CONFIRM_PROMPT) != passphrase:
            tell(MISMATCH)
        else:
            return passphrase
    raise PassphraseFailed
