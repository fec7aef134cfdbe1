"""Resolution and creation over real HTTP on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dms.identity.errors import NoResolver, NotKnown, PrismError, ResolutionFailed, UnresolvedDID
from dms.identity.ids import DID
from dms.identity.keys import KeyType, PrivateKey, generate_key
from dms.identity.prism.creation import submit, wait_until_resolved
from dms.identity.prism.http import MAX_BODY_BYTES
from dms.identity.prism.operation import create_did
from dms.identity.prism.resolver import PrismResolver
from dms.identity.resolution import KEY_LIFETIME_S
from dms.identity.trust import Provider, TrustContext
from dms.testing.prism import PrismService, document, serve_prism

KEY = PrivateKey(KeyType.SECP256K1, b"\x04" * 32)
ALICE = DID(uri="did:prism:" + "0a" * 32)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrismService]:
    monkeypatch.setenv("NO_PROXY", "*")
    with serve_prism() as running:
        running.publish(ALICE, KEY.public)
        yield running


async def refused(service: PrismService) -> str:
    with pytest.raises(ResolutionFailed) as caught:
        await PrismResolver(service.url).fetch_key(ALICE)
    return caught.value.message


async def test_what_a_did_prism_signed_verifies_after_it_was_resolved(service: PrismService) -> None:
    signature = Provider.of_key(KEY, ALICE).sign(b"message")
    trust = TrustContext(resolver=PrismResolver(service.url + "/"))
    anchor = await trust.resolve(ALICE)
    assert anchor.verify(b"message", signature)
    assert trust.anchor(ALICE) == anchor
    assert len(service.requests) == 1
    method, path, headers = service.requests[0]
    assert (method, path) == ("GET", f"/api/dids/{ALICE}")
    assert headers["Accept"] == "application/did+json,application/json"
    assert headers["Accept-Encoding"] == "identity"


async def test_a_rotated_key_is_used_after_the_lifetime_of_the_old_one(service: PrismService) -> None:
    now_s = 100.0
    trust = TrustContext(resolver=PrismResolver(service.url), clock_s=lambda: now_s)
    assert (await trust.resolve(ALICE)).public_key == KEY.public
    rotated = generate_key()
    service.publish(ALICE, rotated.public)
    now_s += KEY_LIFETIME_S - 1
    assert (await trust.resolve(ALICE)).public_key == KEY.public
    now_s += 1
    assert (await trust.resolve(ALICE)).public_key == rotated.public


async def test_the_document_of_another_did_is_refused(service: PrismService) -> None:
    service.documents[ALICE.uri] = document(DID(uri="did:prism:mallory"), KEY.public)
    assert "not that of did:prism:0a0a" in await refused(service)


@pytest.mark.parametrize("status", [201, 204, 301, 302, 400, 500, 503])
async def test_every_other_status_is_refused_and_no_redirection_followed(service: PrismService, status: int) -> None:
    service.status = status
    service.headers["Location"] = service.url + "/api/dids/other"
    assert f"status {status}" in await refused(service)
    assert len(service.requests) == 1


async def test_an_unknown_did_is_told_from_other_failures(service: PrismService) -> None:
    with pytest.raises(NotKnown, match="does not know did:prism:bb"):
        await PrismResolver(service.url).fetch_key(DID(uri="did:prism:bb"))


async def test_a_huge_answer_is_not_read_to_its_end(service: PrismService) -> None:
    service.body = b" " * (MAX_BODY_BYTES + 1)
    assert f"more than {MAX_BODY_BYTES} bytes" in await refused(service)


async def test_a_compressed_answer_is_refused(service: PrismService) -> None:
    service.headers["Content-Encoding"] = "gzip"
    assert "compressed" in await refused(service)


async def test_an_answer_that_is_no_document_is_refused(service: PrismService) -> None:
    service.body = b"<html>"
    assert "not a DID document" in await refused(service)


async def test_a_slow_service_costs_no_more_than_the_time_limit(service: PrismService) -> None:
    service.is_slow = True
    trust = TrustContext(resolver=PrismResolver(service.url))
    with pytest.raises(UnresolvedDID, match=r"within 0\.2 s"):
        await trust.resolve(ALICE, timeout_s=0.2)
    with pytest.raises(UnresolvedDID, match=r"within 0\.2 s"):  # remembered, not asked again
        await trust.resolve(ALICE, timeout_s=60)
    assert len(service.requests) <= 1


async def test_a_service_that_is_not_there_is_an_error_of_ours() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ResolutionFailed, match="cannot be resolved at"):
            await PrismResolver(url).fetch_key(ALICE)


@pytest.mark.parametrize("url", ["http://", "nonsense", "http://a b", "http://127.0.0.1:99999"])
async def test_an_address_that_cannot_be_one_is_an_error_of_ours(url: str) -> None:
    with pytest.raises(ResolutionFailed):
        await PrismResolver(url).fetch_key(ALICE)


@pytest.mark.parametrize("uri", ["did:prism:a/b", "did:prism:a?b", "did:prism:a b", "did:prism:%2e", "did:prism:ä"])
async def test_what_could_lead_elsewhere_is_not_asked_for(service: PrismService, uri: str) -> None:
    with pytest.raises(ResolutionFailed, match="is no did:prism"):
        await PrismResolver(service.url).fetch_key(DID(uri=uri))
    with pytest.raises(NoResolver):
        await PrismResolver(service.url).fetch_key(DID(uri="did:web:a"))
    assert service.requests == []


@pytest.mark.parametrize("kind", [KeyType.ED25519, KeyType.SECP256K1])
async def test_a_new_did_is_submitted_and_resolved(service: PrismService, kind: KeyType) -> None:
    key = generate_key(kind)
    creation = create_did(key)
    assert await submit(service.url + "/", creation.signed_operation) == "tx-1"
    assert service.requests[0][:2] == ("POST", "/api/signed-operation-submissions")
    await wait_until_resolved(service.url, creation.did, key.public)
    assert await PrismResolver(service.url).fetch_key(creation.did) == key.public


async def test_waiting_polls_until_the_did_is_known(service: PrismService) -> None:
    creation = create_did(KEY)
    await submit(service.url, creation.signed_operation)
    service.polls_until_known = 2
    await wait_until_resolved(service.url, creation.did, KEY.public, poll_s=0.01)
    assert [method for method, _, _ in service.requests] == ["POST", "GET", "GET", "GET"]


async def test_waiting_ends_when_the_time_is_over_and_says_why(service: PrismService) -> None:
    service.polls_until_known = 10**6
    with pytest.raises(PrismError, match=r"within 0\.2 s: .* does not know") as caught:
        await wait_until_resolved(service.url, ALICE, KEY.public, timeout_s=0.2, poll_s=0.01)
    assert "was submitted" in caught.value.hint


async def test_a_did_with_another_key_is_not_waited_for(service: PrismService) -> None:
    with pytest.raises(PrismError, match="another key"):
        await wait_until_resolved(service.url, ALICE, generate_key().public)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, b"no\nsuch \x1b[31mthing", r"status 400: no such  \[31mthing"),
        (500, b"", "status 500: no reason given"),
        (200, b"[]", "something else"),
        (200, b"\xff", "something else"),
        (200, b'{"tx_id": 7}', "something else"),
    ],
)
async def test_a_refused_operation_is_told_in_one_line(
    service: PrismService, status: int, body: bytes, reason: str
) -> None:
    service.status, service.body = status, body
    with pytest.raises(PrismError, match=reason):
        await submit(service.url, create_did(KEY).signed_operation)


async def test_an_operation_that_is_not_taken_in_time_is_an_error(service: PrismService) -> None:
    service.is_slow = True
    with pytest.raises(PrismError, match=r"did not take the operation within 0\.2 s"):
        await submit(service.url, create_did(KEY).signed_operation, timeout_s=0.2)


async def test_a_forged_operation_is_refused_by_the_stand_in(service: PrismService) -> None:
    creation = create_did(KEY)
    forged = bytearray(creation.signed_operation)
    forged[20] ^= 1  # inside the signature
    with pytest.raises(PrismError, match="does not fit"):
        await submit(service.url, bytes(forged))
