"""Payloads of ``/dms/cap/*`` (``spec/security.md`` 5.10). Keys are the original's, capitalised; ours are marked."""

from __future__ import annotations

from typing import Any

import msgspec

from dms.capability.token import NO_TOKENS, TokenList
from dms.identity.ids import DID
from dms.types.gojson import Wire


class ListAnchors(Wire):
    """Whose anchors; empty is the node's own context, the only one that it opens."""

    context: str = msgspec.field(name="Context", default="")


class Anchors(Wire, kw_only=True):
    """The anchors of a context, or why there are none."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error", default="")
    roots: tuple[DID, ...] = msgspec.field(name="Roots", default=())
    require: TokenList = msgspec.field(name="Require")
    provide: TokenList = msgspec.field(name="Provide")
    revoke: TokenList = msgspec.field(name="Revoke")


class AnchorRequest(Wire):
    """Anchors to add, all or none. ``root`` is read so that it can be refused: nobody becomes a root from afar."""

    root: tuple[DID, ...] | None = msgspec.field(name="Root", default=())
    require: TokenList = msgspec.field(name="Require", default=NO_TOKENS)
    provide: TokenList = msgspec.field(name="Provide", default=NO_TOKENS)
    revoke: TokenList = msgspec.field(name="Revoke", default=NO_TOKENS)


class TokenRequest(Wire):
    """Tokens to anchor, or revocations that are spread."""

    token: TokenList = msgspec.field(name="Token", default=NO_TOKENS)


class CapReply(Wire):
    """Whether it was done: what is answered with ``OK`` is on the disk."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error", default="")


class MissedRequest(Wire):
    """Ours: which revocations are missing here. ``digests`` tells what is not missing (see
    :class:`dms.node.revocations.Summary`), ``after`` is where the page before ended.
    """

    digests: bytes = msgspec.field(name="Digests", default=b"")
    after: bytes = msgspec.field(name="After", default=b"")


class MissedReply(Wire):
    """Ours: a page of revocations; with ``next`` there is another one."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error", default="")
    token: TokenList = msgspec.field(name="Token", default=NO_TOKENS)
    next: bytes = msgspec.field(name="Next", default=b"")


class ExplainRequest(Wire):
    """Ours: may ``From`` call ``Behavior`` at ``Audience`` (this node, if empty), or broadcast it on ``Topic``, with
    the tokens that it would send?
    """

    from_: str = msgspec.field(name="From")
    behavior: str = msgspec.field(name="Behavior")
    audience: str = msgspec.field(name="Audience", default="")
    topic: str = msgspec.field(name="Topic", default="")
    token: TokenList = msgspec.field(name="Token", default=NO_TOKENS)


class ExplainReply(Wire):
    """Ours: the decision, or why there is none."""

    ok: bool = msgspec.field(name="OK")
    error: str = msgspec.field(name="Error", default="")
    decision: Any = msgspec.field(name="Decision", default=None)  # what Decision.as_data makes
