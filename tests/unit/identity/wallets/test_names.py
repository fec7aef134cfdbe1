from __future__ import annotations

import pytest

from dms.identity.errors import BadName, NoProvider
from dms.identity.ids import DID, did_of
from dms.identity.keys import KeyType, PrivateKey, PublicKey
from dms.identity.wallets.names import ContextName, Signer, check_daemon_context

SECP = PrivateKey(KeyType.SECP256K1, b"\x07" * 32).public
ED = PrivateKey(KeyType.ED25519, b"\x07" * 32).public
DIDS = {
    Signer.KEY: did_of(ED),
    Signer.LEDGER: did_of(PublicKey(KeyType.ETH, SECP.raw)),
    Signer.ETERNL: did_of(PublicKey(KeyType.CARDANO, ED.raw)),
}


@pytest.mark.parametrize(
    ("name", "signer", "part", "files"),
    [
        ("user", Signer.KEY, "", ("user",)),
        ("ledgerbook", Signer.KEY, "", ("ledgerbook",)),
        ("ledger2", Signer.KEY, "", ("ledger2",)),
        ("my:ledger", Signer.KEY, "", ("my:ledger",)),
        ("Ledger", Signer.KEY, "", ("Ledger",)),
        ("eternly", Signer.KEY, "", ("eternly",)),
        ("ledger", Signer.LEDGER, "", ("ledger",)),
        ("ledger:2", Signer.LEDGER, "2", ("2", "ledger:2")),
        ("ledger:savings", Signer.LEDGER, "savings", ("savings", "ledger:savings")),
        ("eternl", Signer.ETERNL, "", ("eternl",)),
        ("eternl:main", Signer.ETERNL, "main", ("main", "eternl:main")),
    ],
)
def test_a_name_says_who_signs_and_where_the_file_lies(
    name: str, signer: Signer, part: str, files: tuple[str, ...]
) -> None:
    parsed = ContextName.parse(name)
    assert (parsed.signer, parsed.part, parsed.file_names) == (signer, part, files)
    assert parsed.is_wallet == (signer is not Signer.KEY)


@pytest.mark.parametrize("name", ["ledger:", "ledger:a:b", "eternl:", "eternl:x:"])
def test_a_wallets_name_must_be_complete(name: str) -> None:
    with pytest.raises(BadName):
        ContextName.parse(name)


@pytest.mark.parametrize(("name", "signer"), [("ledger:x", Signer.LEDGER), ("eternl:x", Signer.ETERNL)])
def test_a_wallets_context_belongs_to_a_key_of_its_kind(name: str, signer: Signer) -> None:
    parsed = ContextName.parse(name)
    assert {kind for kind, did in DIDS.items() if parsed.could_own(did)} == {signer}
    assert not parsed.could_own(DID(uri="did:prism:aa"))


def test_a_context_of_the_keystore_may_belong_to_any_did() -> None:
    assert ContextName.parse("user").could_own(DID(uri="did:prism:aa"))


@pytest.mark.parametrize("name", ["ledger", "ledger:0", "eternl:x"])
def test_a_wallet_cannot_sign_for_a_daemon(name: str) -> None:
    with pytest.raises(NoProvider, match=r"^no provider for a daemon"):
        check_daemon_context(name)
    assert check_daemon_context("ledgerbook") == "ledgerbook"
