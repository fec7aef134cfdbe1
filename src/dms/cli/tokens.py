"""DIDs, capabilities and tokens as people give them on a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dms.capability.token import Token, TokenList
    from dms.identity.ids import DID
    from dms.types.ids import Capability


def parse_did(text: str, what: str, *, optional: bool = False) -> DID:
    """A DID; the empty one only where it is ``optional``.

    :raises InvalidDID: something else; ``what`` says whose.
    """
    from dms.identity.errors import InvalidDID
    from dms.identity.ids import DID

    try:
        did = DID.parse(text)
    except InvalidDID:
        did = DID()
    if did or (optional and not text):
        return did
    raise InvalidDID(f"invalid {what} DID: {text[:80]!r}")


def split(values: list[str] | None) -> tuple[str, ...]:
    """The values of a list flag: repeated, separated by commas, or both."""
    return tuple(part.strip() for value in values or () for part in value.split(",") if part.strip())


def parse_caps(values: list[str] | None) -> tuple[Capability, ...]:
    """The capabilities of a list flag."""
    from dms.types.ids import Capability

    return tuple(Capability(path) for path in split(values))


def parse_expiry_ns(expiry: str, duration: str) -> int:
    """When a token ends, UNIX nanoseconds, from exactly one of ``--expiry`` and ``--duration``.

    :raises BadInput: none or both, not understood, or in the past.
    """
    import time

    from dms.cli.times import parse_time_ns
    from dms.types.errors import BadInput
    from dms.types.units import parse_duration_ns

    if not expiry and not duration:
        raise BadInput("either expiration or duration must be specified", hint="--expiry 2030-12-31, or --duration 24h")
    if expiry and duration:
        raise BadInput("--expiry and --duration exclude each other")
    now_ns = time.time_ns()
    expiry_ns = parse_time_ns(expiry) if expiry else now_ns + parse_duration_ns(duration)
    if expiry_ns <= now_ns:
        raise BadInput(f"the expiry {expiry or duration} lies in the past")
    return expiry_ns


def exactly_one(**flags: str | None) -> None:
    """:raises BadInput: not one of the flags was given, or several."""
    from dms.types.errors import BadInput

    if sum(value is not None for value in flags.values()) != 1:
        raise BadInput(f"give exactly one of {', '.join(f'--{name}' for name in flags)}")


def parse_token_list(text: str, flag: str) -> TokenList:
    """A token list with something in it.

    :raises BadToken: something else was given with ``flag``.
    """
    from dms.capability.errors import BadToken
    from dms.capability.token import decode_token_list

    tokens = decode_token_list(text.encode("utf-8", "surrogateescape"))
    if not tokens:
        raise BadToken(
            f'bad token: {flag} holds no tokens; it takes a list, {{"tok":[…]}}, as `nunet cap grant` prints it'
        )
    return tokens


def parse_token(text: str, flag: str) -> Token:
    """A single token.

    :raises BadToken: something else was given with ``flag``.
    """
    from dms.capability.errors import BadToken
    from dms.capability.token import decode_token

    try:
        return decode_token(text.encode("utf-8", "surrogateescape"))
    except BadToken as exc:
        raise BadToken(
            f"{exc.message}, in {flag}", hint='it takes a single token, {"dms":{…}}, as `nunet cap list` prints it'
        ) from None


def parse_token_or_list(text: str, flag: str) -> TokenList:
    """A single token or a list of them.

    :raises BadToken: neither was given with ``flag``.
    """
    from dms.capability.errors import BadToken
    from dms.capability.token import TokenList

    try:
        return TokenList.of(parse_token(text, flag))
    except BadToken:
        return parse_token_list(text, flag)
