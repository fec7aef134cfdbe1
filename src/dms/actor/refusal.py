"""Telling a caller why its message was refused, and reading what we are told.

Strangers get no answer: it would tell them that somebody is here, and who may do what. A caller that is known
(:mod:`dms.actor.standing`) gets a reply to its own reply-to behaviour, so that it need not wait for its time-out; one whose
authority comes from a root of ours is shown the whole decision, others the rule alone. At most a few a second go to each
peer, and each costs us a signature check that the refusal would have spared.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dms.actor.errors import (
    MessageExpired,
    RateLimited,
    RemoteError,
    RemoteExpired,
    RemoteNotAuthorized,
    RemoteRateLimited,
    RemoteUnknownBehaviour,
    UnknownBehaviour,
)
from dms.actor.rates import Rate
from dms.actor.standing import Standing
from dms.capability.errors import NotAuthorized
from dms.types import gojson
from dms.types.errors import BadJSON, DMSError
from dms.types.gojson import Wire

REFUSAL_RATE: Final = Rate(2.0, 20.0)
"""Per peer."""
MAX_LATE_NS: Final = 24 * 3600 * 10**9
"""Of a message that expired longer ago no clock is to blame."""
MAX_TEXT_CHARS: Final = 500
ASK_HINT: Final = "ask the owner of that node for a capability for this behaviour"

_PREFIX: Final = b'{"OK":false,"Error":'
_TOLD: Final = (NotAuthorized, UnknownBehaviour, RateLimited, MessageExpired)
_REMOTE: Final[dict[str, type[RemoteError]]] = {
    kind.code: kind for kind in (RemoteNotAuthorized, RemoteUnknownBehaviour, RemoteRateLimited, RemoteExpired)
}


class Refusal(Wire):
    """The payload. Four members are always there, in this order, and by that it is told from replies of behaviours."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error")
    code: str = msgspec.field(name="Code")
    hint: str = msgspec.field(name="Hint")
    decision: dict[str, Any] | None = msgspec.field(name="Decision", default=None)


def is_told(error: DMSError) -> bool:
    """Whether known callers are told of this error; of the others a caller who is honest never hears."""
    return isinstance(error, _TOLD)


def refusal_of(error: DMSError, standing: Standing) -> Refusal:
    """What a caller of that standing is told."""
    decision: dict[str, Any] | None = None
    hint = error.hint
    if isinstance(error, NotAuthorized):
        made = error.decision
        if standing is not Standing.TRUSTED:
            hint = ASK_HINT
        if made is not None:
            is_shown = standing is Standing.TRUSTED
            decision = made.as_data() if is_shown else {"rule": made.rule.value, "message": made.message}
    return Refusal(ok=False, error=error.message, code=error.code, hint=hint, decision=decision)


def read_refusal(payload: bytes) -> RemoteError | None:
    """The error that a reply tells of; ``None`` if it is an ordinary reply. Its texts are somebody else's."""
    if not payload.startswith(_PREFIX):
        return None
    try:
        members = gojson.parse(payload)
    except BadJSON:
        return None
    if not isinstance(members, dict) or not members.keys() >= {"OK", "Error", "Code", "Hint"}:
        return None
    kind = _REMOTE.get(members["Code"]) if isinstance(members["Code"], str) else None
    if kind is None:
        return None
    decision = members.get("Decision")
    return kind(
        _text(members["Error"]), hint=_text(members["Hint"]), decision=decision if isinstance(decision, dict) else None
    )


def _text(value: object) -> str:
    text = value if isinstance(value, str) else ""
    return "".join(char if char.isprintable() else "\ufffd" for char in text[:MAX_TEXT_CHARS])
