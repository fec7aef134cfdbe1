from __future__ import annotations

import pytest

from dms.identity.errors import NoAnchorMethod, NoProvider, UnresolvedDID
from dms.identity.ids import DID, did_of
from dms.identity.keys import KeyType, PrivateKey
from dms.identity.trust import MAX_VERIFIED, Provider, TrustContext

KEY = PrivateKey(KeyType.ED25519, b"\x07" * 32)
PRISM = DID(uri="did:prism:aa")


def test_what_a_provider_signs_the_anchor_verifies() -> None:
    trust = TrustContext()
    trust.add_provider(Provider.of_key(KEY))
    signature = trust.provider(did_of(KEY.public)).sign(b"message")
    anchor = trust.anchor(did_of(KEY.public))
    assert anchor.verify(b"message", signature)
    assert not anchor.verify(b"other", signature)
    assert anchor == trust.provider(did_of(KEY.public)).anchor


def test_a_did_whose_key_is_not_open_has_no_provider() -> None:
    with pytest.raises(NoProvider, match=r"^no provider"):
        TrustContext().provider(did_of(KEY.public))


def test_methods_that_cannot_be_resolved_are_named() -> None:
    with pytest.raises(NoAnchorMethod, match=r"^no anchor method: 'web'"):
        TrustContext().anchor(DID(uri="did:web:abc"))


def test_a_did_prism_must_be_resolved_before_it_can_be_used() -> None:
    trust = TrustContext()
    assert not trust.is_resolved(PRISM)
    with pytest.raises(UnresolvedDID, match=r"did:prism:aa is not resolved"):
        trust.anchor(PRISM)


def test_a_key_may_sign_for_a_did_prism_and_its_own_process_needs_no_resolver() -> None:
    trust = TrustContext(Provider.of_key(KEY, PRISM))
    assert trust.is_resolved(PRISM)
    assert trust.anchor(PRISM).verify(b"message", trust.provider(PRISM).sign(b"message"))
    assert trust.provider(PRISM).export() == KEY


def test_providers_do_not_print_keys() -> None:
    assert "07070707" not in repr(Provider.of_key(KEY))


def test_verified_statements_are_remembered_up_to_a_bound() -> None:
    trust = TrustContext()
    for number in range(MAX_VERIFIED + 1):
        trust.remember(number.to_bytes(32, "big"))
    assert not trust.remembers(bytes(32))
    assert trust.remembers(MAX_VERIFIED.to_bytes(32, "big"))
    assert trust.remembers((1).to_bytes(32, "big"))
