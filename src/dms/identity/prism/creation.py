"""Making a did:prism known: submit the operation, then wait until the DID can be resolved (``spec/security.md`` 1.12)."""

from __future__ import annotations

import json
from typing import Final

import msgspec
import trio

from dms.identity.errors import PrismError, ResolutionFailed
from dms.identity.ids import DID
from dms.identity.keys import PublicKey
from dms.identity.prism.http import Failed, ask
from dms.identity.prism.resolver import PrismResolver

SUBMISSION_TIMEOUT_S: Final = 120.0
WAIT_TIMEOUT_S: Final = 1200.0
POLL_S: Final = 2.0
REQUEST_TIMEOUT_S: Final = 30.0
_MAX_REASON_CHARS: Final = 200


class _Accepted(msgspec.Struct):
    tx_id: str = ""
    operation_ids: list[str] = []


async def submit(base_url: str, signed_operation: bytes, *, timeout_s: float = SUBMISSION_TIMEOUT_S) -> str:
    """Hand the operation to the service; returns the id of the transaction that will carry it.

    :raises PrismError: the service did not take it.
    """
    base_url = base_url.rstrip("/")
    body = json.dumps({"signed_operations": [signed_operation.hex()]}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    try:
        with trio.fail_after(timeout_s):
            answer = await ask("POST", f"{base_url}/api/signed-operation-submissions", headers=headers, body=body)
    except Failed as exc:
        raise PrismError(f"{base_url} does not answer: {exc}", hint="name the service with --prism-url") from None
    except trio.TooSlowError:
        raise PrismError(f"{base_url} did not take the operation within {timeout_s:g} s") from None
    if not 200 <= answer.status < 300:
        reason = answer.body.decode("utf-8", "replace")[:_MAX_REASON_CHARS]
        shown = "".join(char if char.isprintable() else " " for char in reason).strip()
        raise PrismError(f"{base_url} refused the operation with status {answer.status}: {shown or 'no reason given'}")
    try:
        return msgspec.json.decode(answer.body, type=_Accepted).tx_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise PrismError(f"{base_url} answered the operation with something else than expected") from None


async def wait_until_resolved(
    base_url: str, did: DID, key: PublicKey, *, timeout_s: float = WAIT_TIMEOUT_S, poll_s: float = POLL_S
) -> None:
    """Ask every ``poll_s`` until ``did`` is known with this key.

    :raises PrismError: it was not in time, or with another key.
    """
    resolver = PrismResolver(base_url)
    reason = "nobody answered"
    with trio.move_on_after(timeout_s):
        while True:
            try:
                with trio.fail_after(REQUEST_TIMEOUT_S):
                    found = await resolver.fetch_key(did)
            except ResolutionFailed as exc:
                reason = exc.message
            except trio.TooSlowError:
                reason = f"no answer within {REQUEST_TIMEOUT_S:g} s"
            else:
                if found == key:
                    return
                raise PrismError(f"{did} has another key than the one it was created with")
            await trio.sleep(poll_s)
    raise PrismError(
        f"{did} could not be resolved within {timeout_s:g} s: {reason}",
        hint="the operation was submitted; the ledger may take longer to confirm it",
    )
