from __future__ import annotations

import pytest

from dms.identity.errors import NoAnchorMethod, NoProvider
from dms.identity.ids import DID, did_of
from dms.identity.keys import KeyType, PrivateKey
from dms.identity.trust import Provider, TrustContext

KEY = PrivateKey(KeyType.ED25519, b"\x07" * 32)


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
    with pytest.raises(NoAnchorMethod, match=r"^no anchor method: 'prism'"):
        TrustContext().anchor(DID(uri="did:prism:abc"))


def test_providers_do_not_print_keys() -> None:
    assert "07070707" not in repr(Provider.of_key(KEY))


def test_verified_statements_are_remembered_up_to_a_bound() -> None:
    trust = TrustContext()
    for number in range(8193):
        trust.remember(number.to_bytes(32, "big"))
    assert not trust.remembers(bytes(32))
    assert trust.remembers((8192).to_bytes(32, "big"))
    assert trust.remembers((1).to_bytes(32, "big"))
