"""A stand-in for a service that resolves and creates did:prism identities: real HTTP on a loopback port.

It keeps documents for the keys it is told, takes signed operations after checking them, and misbehaves on request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from dms.identity import secp256k1
from dms.identity.ids import DID
from dms.identity.keys import KeyType, PublicKey

Json = dict[str, Any]  # documents, of whatever shape a test wants


class PrismService:
    """What the service knows and how it behaves; change it while it runs."""

    def __init__(self) -> None:
        self.url = ""
        self.documents: dict[str, Json] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        """Method, path and headers of everything that was asked."""
        self.status = 200
        self.body: bytes | None = None
        """Sent instead of a document."""
        self.headers: dict[str, str] = {}
        """Sent beside the usual ones."""
        self.polls_until_known = 0
        """How often a new DID is unknown before it is known."""
        self.is_slow = False
        self.closing = threading.Event()

    def publish(self, did: DID, key: PublicKey) -> None:
        """Say that ``key`` is the key of ``did``."""
        self.documents[did.uri] = document(did, key)

    def answer(self, did: str) -> tuple[int, bytes]:
        """Status and body for a question."""
        if self.status != 200 or self.body is not None:
            return self.status, self.body or b""
        if did not in self.documents or self.polls_until_known > 0:
            self.polls_until_known -= 1
            return 404, b"{}"
        return 200, json.dumps(self.documents[did]).encode()

    def accept(self, body: bytes) -> tuple[int, bytes]:
        """Status and body for submitted operations."""
        if self.status != 200 or self.body is not None:
            return self.status, self.body or b""
        (signed,) = json.loads(body)["signed_operations"]
        outer = read_fields(bytes.fromhex(signed))
        operation = outer[3][0]
        did = DID(uri=f"did:prism:{hashlib.sha256(operation).hexdigest()}")
        keys = [read_fields(field) for field in read_fields(read_fields(read_fields(operation)[1][0])[1][0])[2]]
        by_name = {fields[1][0].decode(): key_of_fields(read_fields(fields[8][0])) for fields in keys}
        if not by_name[outer[1][0].decode()].verify(operation, outer[2][0]):
            return 400, b"the signature does not fit"
        self.publish(did, by_name["auth-0"])
        return 202, json.dumps({"tx_id": "tx-1", "operation_ids": [did.uri[-64:]]}).encode()


@contextmanager
def serve_prism() -> Iterator[PrismService]:
    """Run the service while the block runs."""
    service = PrismService()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._note()
            if service.is_slow:
                service.closing.wait(60)
            self._send(*service.answer(unquote(self.path.rpartition("/")[2])))

        def do_POST(self) -> None:
            self._note()
            if service.is_slow:
                service.closing.wait(60)
            self._send(*service.accept(self.rfile.read(int(self.headers["Content-Length"]))))

        def _note(self) -> None:
            service.requests.append((self.command, self.path, dict(self.headers.items())))

        def _send(self, status: int, body: bytes) -> None:
            try:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **service.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # the caller has had enough
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def document(did: DID, key: PublicKey) -> Json:
    """A document that names ``key`` for authentication."""
    method = {"id": f"{did.uri}#auth-0", "type": "JsonWebKey2020", "controller": did.uri, "publicKeyJwk": jwk(key)}
    return {
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": did.uri,
        "verificationMethod": [method],
        "authentication": [method["id"]],
    }


def jwk(key: PublicKey) -> Json:
    """A key as JSON Web Key."""
    if key.type is KeyType.ED25519:
        return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(key.raw)}
    x, y = secp256k1.coordinates(key.raw)
    return {"kty": "EC", "crv": "secp256k1", "x": _base64url(x), "y": _base64url(y)}


def read_fields(data: bytes) -> dict[int, list[bytes]]:
    """The length-delimited fields of a protocol buffers message; numbers are skipped."""
    fields: dict[int, list[bytes]] = {}
    position = 0

    def varint() -> int:
        nonlocal position
        number = shift = 0
        while True:
            byte = data[position]
            position += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while position < len(data):
        tag = varint()
        number = varint()
        if tag & 7 == 2:
            fields.setdefault(tag >> 3, []).append(data[position : position + number])
            position += number
    return fields


def key_of_fields(fields: dict[int, list[bytes]]) -> PublicKey:
    """The key in an ``ec_key_data`` message."""
    if fields[1] == [b"Ed25519"]:
        return PublicKey(KeyType.ED25519, fields[2][0])
    return PublicKey(KeyType.SECP256K1, secp256k1.compress(fields[2][0], fields[3][0]))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
