"""What the client believes, and what it says about servers that are no node."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from dms.actor.envelope import Envelope, Options, decode_envelope
from dms.actor.errors import RemoteNotAuthorized
from dms.actor.handle import ROOT_INBOX, Address, Handle
from dms.capability.context import CapabilityContext
from dms.cli.client import Client, broadcast_signed, refused
from dms.cli.errors import BadReply, DaemonNotRunning, NoReply, Refused, RefusedState, RefusedUnknown
from dms.cli.rest import Rest
from dms.identity.ids import ActorID, did_of, peer_id_of
from dms.identity.keys import PrivateKey, generate_key
from dms.identity.trust import Provider, TrustContext
from dms.testing.daemon import ScriptedDaemon
from dms.types.errors import BadInput, DMSError, Unavailable


def handle_of(key: PrivateKey, inbox: str = ROOT_INBOX) -> Handle:
    return Handle(
        id=ActorID.of(key.public),
        did=did_of(key.public),
        addr=Address(host=peer_id_of(key.public), inbox=inbox),
    )


class Liar(Rest):
    """A daemon that answers with whatever it is told to make of the message."""

    def __init__(self, key: PrivateKey) -> None:
        super().__init__("127.0.0.1", 1)
        self.key = key
        self.answers: list[bytes] = []
        self.is_honest = False

    def handle(self) -> Handle:
        return handle_of(self.key)

    def invoke(self, message: bytes, timeout_s: float) -> bytes:
        return reply_to(decode_envelope(message), self.key).encode() if self.is_honest else self.answers[0]

    def broadcast(self, message: bytes, timeout_s: float) -> list[bytes]:
        return self.answers


@pytest.fixture
def liar() -> Liar:
    return Liar(generate_key())


@pytest.fixture
def client(liar: Liar) -> Client:
    key = generate_key()
    trust = TrustContext(Provider.of_key(key))
    return Client(liar, lambda: CapabilityContext("user", did_of(key.public), trust))


def reply_to(message: Envelope, key: PrivateKey, **changes: object) -> Envelope:
    reply = Envelope(
        to=message.from_,
        be=message.opt.cont,
        from_=handle_of(key),
        nonce=1,
        opt=Options(exp=message.opt.exp),
        msg=b'{"DID":"x"}',
    )
    return msgspec.structs.replace(reply, **changes).sign(key)


def test_the_reply_of_whom_we_asked_is_believed(client: Client, liar: Liar) -> None:
    message = client.message(client.node, "/public/hello", None)
    liar.answers = [reply_to(message, liar.key).encode()]
    assert client.invoke(message).msg == b'{"DID":"x"}'


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"be": "/private/user/2"}, "addressed to somebody else"),
        ({"to": handle_of(generate_key())}, "addressed to somebody else"),
        ({"opt": Options(exp=1)}, "message expired"),
        ({"opt": Options(exp=2**62)}, "live longer than a day"),
    ],
)
def test_a_reply_to_something_else_is_not_believed(
    client: Client, liar: Liar, changes: dict[str, object], reason: str
) -> None:
    message = client.message(client.node, "/public/hello", None)
    liar.answers = [reply_to(message, liar.key, **changes).encode()]
    with pytest.raises(BadReply, match=reason):
        client.invoke(message)


def test_a_reply_of_somebody_else_is_not_believed_whatever_did_it_claims(client: Client, liar: Liar) -> None:
    message = client.message(client.node, "/public/hello", None)
    other = generate_key()
    claimed = msgspec.structs.replace(handle_of(other), did=client.node.did)
    for changes in ({}, {"from_": claimed}):
        liar.answers = [reply_to(message, other, **changes).encode()]
        with pytest.raises(BadReply, match="it comes from"):
            client.invoke(message)


def test_a_reply_that_was_changed_on_the_way_is_not_believed(client: Client, liar: Liar) -> None:
    message = client.message(client.node, "/public/hello", None)
    changed = msgspec.structs.replace(reply_to(message, liar.key), msg=b'{"DID":"y"}')
    liar.answers = [changed.encode()]
    with pytest.raises(BadReply, match="signature verification failed"):
        client.invoke(message)


@pytest.mark.parametrize("data", [b"", b"null", b"{}", b"[]", b'{"from":{"id":{"pub":"x"}}}', b"\xff"])
def test_garbage_is_not_believed(client: Client, liar: Liar, data: bytes) -> None:
    liar.answers = [data]
    with pytest.raises(BadReply):
        client.invoke(client.message(client.node, "/public/hello", None))


def test_a_reply_of_another_shape_is_told(client: Client, liar: Liar) -> None:
    class Number(msgspec.Struct):
        did: int = msgspec.field(name="DID")

    liar.is_honest = True
    with pytest.raises(BadReply, match="the reply to /public/hello is not understood"):
        client.call("/public/hello", None, Number)


def test_a_reply_need_not_be_waited_for_as_long_as_the_message_lives(node: ScriptedDaemon) -> None:
    key = generate_key()
    trust, me = TrustContext(Provider.of_key(key)), did_of(key.public)
    client = Client(Rest("127.0.0.1", node.port), lambda: CapabilityContext("user", me, trust))
    with pytest.raises(NoReply, match=r"^no reply to /public/hello within 50 ms$"):
        client.call("/public/hello", None, dict, timeout_s=3600.0, wait_s=0.05)


def test_of_a_broadcast_each_sender_counts_once_and_forgeries_not_at_all(client: Client, liar: Liar) -> None:
    message = client.broadcast_message("/nunet/hello", "/broadcast/hello", None)
    one, two = generate_key(), generate_key()
    forged = msgspec.structs.replace(reply_to(message, two), msg=b"1")
    first, again = reply_to(message, one), reply_to(message, one, nonce=2)
    liar.answers = [forged.encode(), b"{}", first.encode(), again.encode()]
    assert broadcast_signed(liar, message) == [first]


def test_the_context_is_not_opened_when_no_node_answers() -> None:
    def open_context() -> CapabilityContext:
        raise AssertionError("asked for a passphrase for nothing")

    with pytest.raises(DaemonNotRunning, match=r"no node answers at 127\.0\.0\.1:1: Connection refused"):
        Client(Rest("127.0.0.1", 1), open_context).message(handle_of(generate_key()), "/x", None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("deployment not found: 3f2a", RefusedUnknown),
        ("deployment is not running: it is Failed", RefusedState),
        ("the machine is onboarded already", RefusedState),
        ("boom", Refused),
    ],
)
def test_what_a_node_says_in_words_has_a_kind(error: str, kind: type[DMSError]) -> None:
    exc = refused(error, "try")
    assert (type(exc), exc.message, exc.hint) == (kind, error, "try")


# servers that are no node ------------------------------------------------------------------------------------------------


Stranger = tuple[Rest, dict[str, object]]


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """An HTTP server that answers everything with ``answer``'s status and body."""
    answer: dict[str, object] = {"status": 200, "body": b""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if answer["status"] == 0:
                self.connection.close()
                return
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(int(str(answer["status"])))
            self.end_headers()
            self.wfile.write(bytes(answer["body"]))  # type: ignore[call-overload]

        do_POST = do_GET  # noqa: N815  the name is given

        def log_message(self, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Rest("127.0.0.1", server.server_address[1]), answer
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (200, b"{}"), (200, b"\xff"), (404, b"not found"), (500, b""), (302, b"{}"), (200, b"[")],
)
def test_a_server_that_is_no_node_is_told(stranger: Stranger, status: int, body: bytes) -> None:
    rest, answer = stranger
    answer |= {"status": status, "body": body}
    with pytest.raises(BadReply, match=r"what answers at 127\.0\.0\.1:\d+ does not speak like a node") as failed:
        rest.handle()
    assert "nunet config get rest" in failed.value.hint


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (400, b'{"error":"bad sender","hint":"h"}', BadInput, "bad sender"),
        (408, b'{"error":"request timeout"}', NoReply, "no reply within 3.0 s"),
        (503, b'{"error":"cannot reach 12D3"}', Unavailable, "cannot reach 12D3"),
        (500, b'{"error":"boom","code":1}', Refused, "boom"),
        (418, b'{"error":"teapot"}', BadReply, "teapot"),
        (400, b"[]", BadReply, "request failed with status code: 400"),
    ],
)
def test_what_the_daemon_refuses_is_told(
    stranger: Stranger, status: int, body: bytes, kind: type[DMSError], message: str
) -> None:
    rest, answer = stranger
    answer |= {"status": status, "body": body}
    with pytest.raises(kind, match=message):
        rest.send(b"{}", 3.0)


@pytest.mark.parametrize("body", [b"{}", b"1", b"x"])
def test_a_broadcast_that_brings_no_list_is_told(stranger: Stranger, body: bytes) -> None:
    rest, answer = stranger
    answer["body"] = body
    with pytest.raises(BadReply):
        rest.broadcast(b"{}", 1.0)


def test_no_replies_may_be_null(stranger: Stranger) -> None:
    rest, answer = stranger
    answer["body"] = b"null"
    assert rest.broadcast(b"{}", 1.0) == []


def test_a_connection_that_breaks_is_told(stranger: Stranger) -> None:
    rest, answer = stranger
    answer["status"] = 0
    with pytest.raises(Unavailable, match="broke"):
        rest.handle()


def test_a_refusal_is_an_error_at_once_with_the_reason_and_the_exit_code(client: Client, liar: Liar) -> None:
    message = client.message(client.node, "/dms/node/secret", None)
    told = b'{"OK":false,"Error":"not authorized: you may not","Code":"not_authorized","Hint":"ask","Decision":{"rule":"action"}}'
    liar.answers = [reply_to(message, liar.key, msg=told).encode()]
    with pytest.raises(RemoteNotAuthorized, match="you may not") as caught:
        client.invoke(message)
    assert caught.value.hint == "ask"
    assert caught.value.exit_code == 3
    assert caught.value.decision == {"rule": "action"}


def test_a_reply_that_only_looks_like_a_refusal_is_a_reply(client: Client, liar: Liar) -> None:
    message = client.message(client.node, "/dms/node/deployment", None)
    for own in (
        b'{"OK":false,"Error":"no","Code":"not_authorized"}',
        b'{"OK":false,"Error":"no","Code":"x","Hint":""}',
    ):
        liar.answers = [reply_to(message, liar.key, msg=own).encode()]
        assert client.invoke(message).msg == own
