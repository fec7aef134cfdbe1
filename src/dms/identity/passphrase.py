"""Where a passphrase comes from: the environment, the service manager, else a person (``spec/security.md`` 2).

How a person is asked is the caller's business; nothing here touches a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from dms.identity.errors import PassphraseFailed

VARIABLE: Final = "DMS_PASSPHRASE"
CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
CREDENTIAL: Final = "passphrase"
"""The file that systemd's ``LoadCredential=passphrase:…`` makes; only the service can read it."""
MAX_CREDENTIAL_BYTES: Final = 4096
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
    """The passphrase from ``DMS_PASSPHRASE`` if that is not empty, else the credential of the service, else from
    ``ask(prompt)``, three tries.

    :param confirm: ask twice, for a new key.
    :param tell: is given what was wrong with a try.
    :raises PassphraseFailed: three empty or unequal tries.
    """
    if given := environ.get(VARIABLE, "") or _credential(environ):
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


def _credential(environ: Mapping[str, str]) -> str:
    """What the service manager hands over, without the line's end; empty if it does not."""
    if not (directory := environ.get(CREDENTIALS_VARIABLE, "")):
        return ""
    path = Path(directory, CREDENTIAL)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CREDENTIAL_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise PassphraseFailed(f"cannot read the credential {path}: {exc.strerror}") from None
    if len(data) > MAX_CREDENTIAL_BYTES:
        raise PassphraseFailed(f"the credential {path} is longer than {MAX_CREDENTIAL_BYTES} bytes")
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise PassphraseFailed(f"the credential {path} is not UTF-8 text") from None
