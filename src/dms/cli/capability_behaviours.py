"""What ``nunet actor cmd`` knows of the behaviours about capabilities (``spec/security.md`` 6.3)."""

from __future__ import annotations

from dms.cli.behaviour_flags import Flag, Flags, KnownBehaviour


def _token_list(flags: Flags) -> object:
    from dms.cli.tokens import parse_token_or_list
    from dms.node.capability_payloads import TokenRequest

    return TokenRequest(token=parse_token_or_list(flags["token"], "--token"))


def _list_anchors(flags: Flags) -> object:
    from dms.node.capability_payloads import ListAnchors

    return ListAnchors(context=flags["name"] or "")


def _anchor(flags: Flags) -> object:
    from dms.capability.token import NO_TOKENS
    from dms.cli.tokens import parse_token_or_list
    from dms.node.capability_payloads import AnchorRequest

    require, provide, revoke = (
        parse_token_or_list(flags[part], f"--{part}") if flags[part] else NO_TOKENS
        for part in ("require", "provide", "revoke")
    )
    return AnchorRequest(require=require, provide=provide, revoke=revoke)


def _explain(flags: Flags) -> object:
    from dms.capability.token import NO_TOKENS
    from dms.cli.tokens import parse_did, parse_token_or_list
    from dms.node.capability_payloads import ExplainRequest

    return ExplainRequest(
        from_=parse_did(flags["from_"], "subject").uri,
        behavior=flags["behavior"],
        audience=flags["audience"] or "",
        topic=flags["topic"] or "",
        token=parse_token_or_list(flags["tokens"], "--tokens") if flags["tokens"] else NO_TOKENS,
    )


def _token_flag(text: str) -> tuple[Flag, ...]:
    return (Flag("token", f"{text} One token, or a list.", is_required=True),)


CAPABILITIES: tuple[KnownBehaviour, ...] = (
    KnownBehaviour(
        "/dms/cap/list",
        "Anchors of the node",
        (Flag("name", "Name of the context; the node opens its own only."),),
        _list_anchors,
    ),
    KnownBehaviour(
        "/dms/cap/anchor",
        "Anchor tokens at the node, of several kinds at once",
        (
            Flag("require", "Token list to accept authority by."),
            Flag("provide", "Token list to show in messages."),
            Flag("revoke", "Revocations, apart from the others."),
        ),
        _anchor,
    ),
    KnownBehaviour(
        "/dms/cap/provide/anchor", "Anchor what the node shows", _token_flag("Given to the node."), _token_list
    ),
    KnownBehaviour("/dms/cap/require/anchor", "Anchor what the node accepts", _token_flag("Lends trust."), _token_list),
    KnownBehaviour(
        "/dms/cap/revoke/anchor", "Anchor a revocation at the node", _token_flag("A revocation."), _token_list
    ),
    KnownBehaviour(
        "/dms/cap/revoke/broadcast",
        "Send a revocation to all nodes",
        _token_flag("A revocation."),
        _token_list,
        topic="/nunet/revocation",
    ),
    KnownBehaviour(
        "/dms/cap/explain",
        "Ask the node how it would decide",
        (
            Flag("behavior", "What is to be called.", short="-b", is_required=True),
            Flag("from", "DID of who calls it.", is_required=True),
            Flag("audience", "DID of whom it is called at; else the node."),
            Flag("topic", "Broadcast on this topic."),
            Flag("tokens", "Tokens that the message carries."),
        ),
        _explain,
    ),
)
