"""HTTP to the daemon: JSON over loopback (``spec/orchestration.md`` 10).

The standard library's client on purpose: one small exchange per command does not repay the 200 ms of CPU that
importing a full one costs.
"""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException
from typing import Any

from dms.actor.handle import Handle
from dms.cli.errors import BadReply, DaemonNotRunning, NoReply, Refused
from dms.types import gojson
from dms.types.errors import BadInput, BadJSON, Unavailable
from dms.types.units import format_duration

BASE = "/api/v1"
CONNECT_TIMEOUT_S = 10.0
MAX_BODY_BYTES = 256 * 2**20
"""Broadcasts may bring thousands of replies; a single reply is at most 1 MiB."""


class Rest:
    """The endpoints of one node."""

    def __init__(self, addr: str, port: int, *, not_running_hint: str = "") -> None:
        self.addr, self.port = addr, port
        self._hint = not_running_hint

    def handle(self) -> Handle:
        """The root actor of the node.

        :raises DMSError: no node, or no handle.
        """
        try:
            handle = gojson.decode(self._request("GET", "/actor/handle", None, CONNECT_TIMEOUT_S), Handle)
        except BadJSON as exc:
            raise self._stranger(exc.message) from None
        if not handle.id:
            raise self._stranger("it has no handle")
        return handle

    def health(self) -> dict[str, Any]:  # JSON
        """How the node is: ``status``, ``peers``, and ``warnings`` where something is wrong.

        :raises DMSError: no node answers.
        """
        try:
            body = json.loads(self._request("GET", "/health", None, CONNECT_TIMEOUT_S))
        except ValueError as exc:
            raise self._stranger(str(exc)) from None
        if not isinstance(body, dict) or "status" not in body:
            raise self._stranger("it tells no health")
        return body

    def send(self, message: bytes, timeout_s: float) -> bytes:
        """Forward a message; the body of the answer."""
        return self._request("POST", "/actor/send", message, timeout_s)

    def invoke(self, message: bytes, timeout_s: float) -> bytes:
        """Forward a message; the first envelope that comes back, unverified.

        :raises NoReply: none came.
        """
        return self._request("POST", "/actor/invoke", message, timeout_s)

    def broadcast(self, message: bytes, timeout_s: float) -> list[bytes]:
        """Publish a message; all envelopes that came back until it expired, unverified."""
        body = self._request("POST", "/actor/broadcast", message, timeout_s)
        try:
            replies = json.loads(body)
        except ValueError as exc:
            raise self._stranger(str(exc)) from None
        if not isinstance(replies, list | None):
            raise self._stranger("no list of replies")
        return [gojson.encode(reply) for reply in replies or ()]

    def _request(self, method: str, path: str, body: bytes | None, timeout_s: float) -> bytes:
        connection = HTTPConnection(self.addr, self.port, timeout=CONNECT_TIMEOUT_S)
        try:
            try:
                connection.connect()
            except OSError as exc:
                raise DaemonNotRunning(
                    f"no node answers at {self.addr}:{self.port}: {exc.strerror or exc}", hint=self._hint
                ) from None
            assert isinstance(connection.sock, socket.socket)
            connection.sock.settimeout(timeout_s)
            connection.request(method, BASE + path, body, {"Content-Type": "application/json"} if body else {})
            with connection.getresponse() as response:
                status, data = response.status, response.read(MAX_BODY_BYTES)
        except TimeoutError:
            raise NoReply(f"no reply within {format_duration(timeout_s)}") from None
        except (OSError, HTTPException) as exc:
            raise Unavailable(
                f"the connection to the node at {self.addr}:{self.port} broke: {str(exc) or type(exc).__name__}",
                hint=self._hint,
            ) from None
        finally:
            connection.close()
        if status != 200:
            self._refuse(status, data, timeout_s)
        return data

    def _refuse(self, status: int, data: bytes, timeout_s: float) -> None:
        try:
            body: Any = json.loads(data)  # JSON of unknown shape
        except ValueError:
            body = {}
        error, hint = (str(body.get(k) or "") for k in ("error", "hint")) if isinstance(body, dict) else ("", "")
        match status:
            case 408:
                raise NoReply(f"no reply within {format_duration(timeout_s)}", hint=hint)
            case 400 if error:
                raise BadInput(error, hint=hint)
            case 503 if error:
                raise Unavailable(error, hint=hint)
            case 500 if error:
                raise Refused(error, hint=hint)
        raise self._stranger(error or f"request failed with status code: {status}")

    def _stranger(self, why: str) -> BadReply:
        return BadReply(
            f"what answers at {self.addr}:{self.port} does not speak like a node: {why}",
            hint="check rest.addr and rest.port: nunet config get rest",
        )
