"""Whether a workload is well: the check that its orchestrator registers (``spec/ensemble.md`` 2.5).

``command`` runs inside the sandbox, through its executor: well when it exits with 0 and its output contains the expected text.
``http`` is a GET from this machine: well when the body is exactly the expected text. Where none is expected, the exit code or a
status below 400 decides. ``tcp`` is well when a connection can be made.

The endpoint is written by somebody else, and this machine may reach what its author may not. So it names the allocation itself
and nothing else: a published port of this machine, or a port at the address of the sandbox; redirections are not followed.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import httpx2
import trio

from dms.allocation.errors import InvalidHealthCheck
from dms.ensemble.config import HealthCheckManifest
from dms.executor.protocol import Executor
from dms.types import gojson

MAX_BODY_BYTES: Final = 65_536
MAX_MANIFEST_BYTES: Final = 16_384
MAX_TOLD_CHARS: Final = 200
TIMEOUT_S: Final = 10.0
"""For each step; who asks bounds the whole."""
DEFAULT_TIMEOUT_S: Final = 5.0
"""For the whole, unless the check says otherwise."""
NS_PER_S: Final = 10**9
HTTP_PORT: Final = 80
ERROR_STATUS: Final = 400
_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A client wants one even for plain HTTP, and would load all certificates of this machine anew for each check."""

_BROKEN: Final = (
    httpx2.HTTPError,
    httpx2.StreamError,
    httpx2.InvalidURL,
    OSError,
    ValueError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


def read_check(members: Mapping[str, Any], executor: str) -> HealthCheckManifest:
    """What was registered, if it can be carried out by this kind of executor.

    :raises DMSError: it cannot; the message says why.
    """
    if len(gojson.encode(dict(members))) > MAX_MANIFEST_BYTES:
        raise InvalidHealthCheck("the health check is too long")
    check = gojson.convert(dict(members), HealthCheckManifest)
    match check.type:
        case "command":
            if not check.exec:
                raise InvalidHealthCheck("a command to run is missing", hint='write exec: ["program", "argument"]')
            if executor == "wasm":
                raise InvalidHealthCheck("no command can run inside a WebAssembly program")
        case "http" | "tcp":
            _endpoint_of(check)
        case other:
            raise InvalidHealthCheck(f'unknown healthcheck type: "{other[:MAX_TOLD_CHARS]}"')
    return check


async def find_problem(
    check: HealthCheckManifest, executor: Executor, execution_id: str, ports: Mapping[str, int]
) -> str:
    """Ask once; what is wrong in one line, or nothing.

    :param ports: public → private.
    :raises DMSError: the executor could not ask.
    """
    timeout_s = check.timeout / NS_PER_S if check.timeout else DEFAULT_TIMEOUT_S
    with trio.move_on_after(timeout_s):
        return await _find_problem(check, executor, execution_id, ports)
    return f"the check took longer than {timeout_s:g} s"


async def _find_problem(
    check: HealthCheckManifest, executor: Executor, execution_id: str, ports: Mapping[str, int]
) -> str:
    expected = check.response.value.encode() if check.response is not None else None
    if check.type == "command":
        return await _run(check.exec, expected, executor, execution_id)
    info = await executor.info(execution_id)
    endpoint = _endpoint_of(check)
    place = _place_of(endpoint, ports, info.net.ip_address if info.net is not None else "")
    if place is None:
        return f"{endpoint.netloc} is no port of this allocation"
    if check.type == "tcp":
        return await _connect(endpoint, place)
    return await _get(endpoint, place, expected)


async def _run(argv: tuple[str, ...], expected: bytes | None, executor: Executor, execution_id: str) -> str:
    said = await executor.exec(execution_id, argv)
    output = said.stdout + said.stderr
    if said.exit_code != 0:
        return f"{argv[0][:MAX_TOLD_CHARS]} ended with exit code {said.exit_code}: {_told(output)}"
    if expected is not None and expected not in output:
        return f"{argv[0][:MAX_TOLD_CHARS]} said something else: {_told(output)}"
    return ""


async def _connect(endpoint: SplitResult, place: str) -> str:
    host, _, port = place.rpartition(":")
    try:
        stream = await trio.open_tcp_stream(host.strip("[]"), int(port))
    except OSError as exc:
        return f"no connection to {endpoint.netloc}: {str(exc)[:MAX_TOLD_CHARS]}"
    await stream.aclose()
    return ""


async def _get(endpoint: SplitResult, place: str, expected: bytes | None) -> str:
    path = (endpoint.path or "/") + (f"?{endpoint.query}" if endpoint.query else "")
    headers = {"Host": endpoint.netloc, "User-Agent": "nunet", "Accept-Encoding": "identity"}
    body = b""
    try:
        async with (
            httpx2.AsyncClient(verify=_NO_TLS, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", f"http://{place}{path}", headers=headers) as response,
        ):
            if expected is None:
                return f"it answers with status {response.status_code}" if response.status_code >= ERROR_STATUS else ""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    await (
                        response.aclose()
                    )  # and go on, which fails: leaving the loop would leave generators unfinished
    except _BROKEN as exc:
        if len(body) <= MAX_BODY_BYTES:
            return f"no answer from {endpoint.netloc}: {str(exc)[:MAX_TOLD_CHARS] or type(exc).__name__}"
    if len(body) > MAX_BODY_BYTES:
        return f"it answers with more than {MAX_BODY_BYTES} bytes"
    return "" if body == expected else f"it answers something else: {_told(body)}"


def _endpoint_of(check: HealthCheckManifest) -> SplitResult:
    try:
        parts = urlsplit(check.endpoint)
        has_place = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        raise InvalidHealthCheck("the endpoint is no URL") from None
    if parts.scheme != check.type or not has_place or parts.username is not None or not check.endpoint.isprintable():
        path = "/PATH" if check.type == "http" else ""
        raise InvalidHealthCheck(f"the endpoint is no URL of the form {check.type}://localhost:PORT{path}")
    if check.type == "tcp" and parts.port is None:
        raise InvalidHealthCheck("the endpoint has no port")
    if not _is_loopback(str(parts.hostname)) and not _is_address(str(parts.hostname)):
        raise InvalidHealthCheck(
            f"the endpoint is on {str(parts.hostname)[:MAX_TOLD_CHARS]}, not on the allocation itself",
            hint="write localhost and a port of the allocation",
        )
    return parts


def _place_of(endpoint: SplitResult, ports: Mapping[str, int], address: str) -> str | None:
    """Where to connect; a published port counts before one of the sandbox with the same number."""
    port = endpoint.port or HTTP_PORT
    if not _is_loopback(str(endpoint.hostname)):
        return _joined(address, port) if address and endpoint.hostname == address else None
    if str(port) in ports:
        return f"127.0.0.1:{port}"
    for public, private in ports.items():
        if private == port:
            return f"127.0.0.1:{public}"
    return _joined(address, port) if address else None


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _told(output: bytes) -> str:
    """The beginning of what a workload said, fit for one line."""
    text = output[: 4 * MAX_TOLD_CHARS].decode("utf-8", "replace")
    return repr(text[:MAX_TOLD_CHARS])
