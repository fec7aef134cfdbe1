"""A Ledger device that signs through the external program ``ledger-cli`` (``spec/security.md`` 1.10).

The device uses its Ethereum application and shows the whole text that is signed. The program writes its answer as JSON
to a file that we name; the file lies in a folder of its own that nobody else may enter.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar

from dms.identity import secp256k1
from dms.identity.errors import BadWalletAnswer, InvalidKey
from dms.identity.ids import DID, did_of
from dms.identity.keys import SECP256K1_SIZE, KeyType, PublicKey
from dms.identity.trust import Anchor, Provider
from dms.identity.wallets.program import TIME_LIMIT_S, check_message, find_program, run_program
from dms.types import gojson
from dms.types.errors import BadJSON
from dms.types.gojson import Wire

PROGRAM: Final = "ledger-cli"
MAX_ACCOUNT: Final = 2**31 - 1
"""The largest number of an account in a derivation path."""
_OUTPUT_PREFIX: Final = "ledger.out"
_MAX_ANSWER_BYTES: Final = 65536
_NUMBER_BYTES: Final = 32


class _KeyAnswer(Wire):
    key: str = ""


class _Signature(Wire):
    r: str = ""
    s: str = ""


class _SignAnswer(Wire):
    ecdsa: _Signature = _Signature()


_Answer = TypeVar("_Answer", _KeyAnswer, _SignAnswer)


class LedgerProvider(Provider):
    """Signs with one account of a Ledger device, whose key is asked for once.

    :raises WalletMissing: ``ledger-cli`` is not installed.
    :raises WalletError: it gave no key.
    """

    def __init__(self, account: int = 0, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._account = account
        self._time_limit_s = time_limit_s
        answer = self._ask("key", [], _KeyAnswer)
        try:
            key = PublicKey(KeyType.ETH, _hex(answer.key, "the key", SECP256K1_SIZE))
        except InvalidKey as exc:
            raise BadWalletAnswer(f"{PROGRAM} gave no usable key: {exc.message}") from None
        self._anchor = Anchor(did_of(key), key)

    @property
    def did(self) -> DID:
        """The did:key of the account."""
        return self._anchor.did

    @property
    def anchor(self) -> Anchor:
        """Verifies what the device signs."""
        return self._anchor

    def sign(self, message: bytes) -> bytes:
        """The signature, after the owner has read ``message`` on the device and confirmed it.

        :raises WalletError: the device did not sign.
        """
        answer = self._ask("sign", [check_message(message, PROGRAM).hex()], _SignAnswer).ecdsa
        try:
            signature = secp256k1.der_signature(_number(answer.r, "r"), _number(answer.s, "s"))
        except InvalidKey as exc:
            raise BadWalletAnswer(f"{PROGRAM} gave no usable signature: {exc.message}") from None
        if not self._anchor.verify(message, signature):
            raise BadWalletAnswer(
                f"{PROGRAM} gave a signature that does not fit account {self._account}",
                hint="is it still the same device?",
            )
        return signature

    def __repr__(self) -> str:
        return f"LedgerProvider(account={self._account}, {self.did})"

    def _ask(self, command: str, arguments: Sequence[str], kind: type[_Answer]) -> _Answer:
        program = find_program(PROGRAM)
        with tempfile.TemporaryDirectory(prefix="nunet-ledger-") as directory:  # mode 0700
            descriptor, output = tempfile.mkstemp(prefix=_OUTPUT_PREFIX, dir=directory)
            os.close(descriptor)
            run_program(
                [program, command, "-o", output, "-a", str(self._account), *arguments], time_limit_s=self._time_limit_s
            )
            data = _read(Path(output))
        try:
            return gojson.decode(data, kind)
        except BadJSON as exc:
            raise BadWalletAnswer(f"{PROGRAM} wrote no usable answer: {exc.message}") from None


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise BadWalletAnswer(f"the answer of {PROGRAM} cannot be read: {exc.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise BadWalletAnswer(f"the answer of {PROGRAM} is not a file")
        data = file.read(_MAX_ANSWER_BYTES + 1)
    if len(data) > _MAX_ANSWER_BYTES:
        raise BadWalletAnswer(f"{PROGRAM} wrote more than {_MAX_ANSWER_BYTES} bytes")
    return data


def _number(text: str, what: str) -> bytes:
    """A number as 32 bytes; the program leaves leading zeros out or puts some before."""
    data = _hex(text, what, 2 * _NUMBER_BYTES, exact=False).lstrip(b"\0")
    if len(data) > _NUMBER_BYTES:
        raise BadWalletAnswer(f"{PROGRAM} gave no usable signature: {what} is too large")
    return data.rjust(_NUMBER_BYTES, b"\0")


def _hex(text: str, what: str, size: int, *, exact: bool = True) -> bytes:
    if len(text) <= 2 * size and text.isascii() and text.isalnum():
        try:
            data = bytes.fromhex(text)
        except ValueError:
            data = b""
        if data and (len(data) == size or not exact):
            return data
    raise BadWalletAnswer(f"{PROGRAM} gave no usable answer: {what} is not the hexadecimal text that was expected")
