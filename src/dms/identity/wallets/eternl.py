"""An Eternl wallet that signs through the external program ``eternl-cli`` (``spec/security.md`` 1.11).

The program opens a browser twice, for the key and for the signature, and prints both among other text.
"""

from __future__ import annotations

import re
from typing import Final

from dms.identity import cardano
from dms.identity.errors import BadWalletAnswer, InvalidKey
from dms.identity.ids import DID, did_of
from dms.identity.keys import KeyType, PublicKey
from dms.identity.trust import Anchor, Provider
from dms.identity.wallets.program import TIME_LIMIT_S, check_message, find_program, run_program

PROGRAM: Final = "eternl-cli"
KEY_REQUEST: Final = b"get_pubkey"
"""The message that stands for a question for the key."""
_MAX_KEY_CHARS: Final = 512
_MAX_SIGNATURE_CHARS: Final = 262144
_KEY: Final = re.compile(rb"PubKeyRaw:\[([^\]\s]*)\]")
_SIGNATURE: Final = re.compile(rb"Signature:\[([^\]\s]*)\]")


class EternlProvider(Provider):
    """Signs with the wallet that is open in the browser, whose key is asked for once.

    :raises WalletMissing: ``eternl-cli`` is not installed.
    :raises WalletError: it gave no key.
    """

    def __init__(self, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._time_limit_s = time_limit_s
        key = _key_in(self._ask(KEY_REQUEST))
        self._anchor = Anchor(did_of(key), key)

    @property
    def did(self) -> DID:
        """The did:key of the wallet's key."""
        return self._anchor.did

    @property
    def anchor(self) -> Anchor:
        """Verifies what the wallet signs."""
        return self._anchor

    def sign(self, message: bytes) -> bytes:
        """The signature, after the owner has confirmed it in the wallet.

        :raises WalletError: the wallet did not sign.
        """
        output = self._ask(message)
        if _KEY.search(output) and _key_in(output) != self._anchor.public_key:
            raise BadWalletAnswer(f"{PROGRAM} signed with another key than before", hint="is it still the same wallet?")
        signature = _find(_SIGNATURE, output, "signature", _MAX_SIGNATURE_CHARS)
        if not self._anchor.verify(message, signature):
            raise BadWalletAnswer(
                f"{PROGRAM} gave a signature that does not fit its key and the message",
                hint="is it still the same wallet and the same account?",
            )
        return signature

    def __repr__(self) -> str:
        return f"EternlProvider({self.did})"

    def _ask(self, message: bytes) -> bytes:
        argv = [find_program(PROGRAM), check_message(message, PROGRAM).hex()]
        return run_program(argv, time_limit_s=self._time_limit_s, capture=True)


def _key_in(output: bytes) -> PublicKey:
    try:
        return PublicKey(KeyType.CARDANO, cardano.public_key_from(_find(_KEY, output, "key", _MAX_KEY_CHARS)))
    except InvalidKey as exc:
        raise BadWalletAnswer(f"{PROGRAM} gave no usable key: {exc.message}") from None


def _find(pattern: re.Pattern[bytes], output: bytes, what: str, max_chars: int) -> bytes:
    found = pattern.search(output)
    if found is None:
        raise BadWalletAnswer(f"{PROGRAM} gave no {what}", hint="was the request confirmed in the browser?")
    text = found[1]
    if len(text) > max_chars:
        raise BadWalletAnswer(f"{PROGRAM} gave a {what} of more than {max_chars} characters")
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise BadWalletAnswer(f"{PROGRAM} gave a {what} that is not hexadecimal") from None
