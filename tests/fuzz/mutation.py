"""Makes bad inputs out of good ones: by bytes, and by what they mean.

JSON is taken apart, changed in one or a few places (values, types, keys, duplicates, case, depth; also inside of the
base64 that envelopes carry) and written in one of many ways. CBOR is changed by its heads. Everything comes from the
random generator that is passed in, so that a run can be repeated.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

MAX_INPUT_BYTES: Final = 200_000
_CHANGES: Final = (1, 1, 1, 1, 2, 3, 8)
_DEPTHS: Final = (1, 3, 31, 32, 63, 64, 65, 200, 3000)
_NUMBERS: Final = (0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**30, 1.5, 1e300, -0.0)
_TEXTS: Final = (
    "",
    "/",
    "//",
    "\0",
    "a" * 5000,
    "\u2028<>&",
    "\ud800",
    "\u017f\u212a\u0130",
    "did:key:z",
    "did:key:z6Mk",
    "did:prism:00",
    "did::",
    "delegate",
    "invoke",
    "broadcast",
    "revoke",
    "=",
    "AAAA",
    "bnVsbA==",
    "../..",
    "%s%n{}",
)
_LITERALS: Final = (
    b"null",
    b"true",
    b"NaN",
    b"-0",
    b"1e400",
    b"1E-400",
    b"00",
    b"+1",
    b"0x1",
    b'"\\u',
    b"[",
    b"{",
    b"}",
    b"]",
)

Value = Any  # JSON of any shape


class Member(tuple[str, Value]):
    """One member of an object; objects are lists of these, so that keys can repeat."""

    __slots__ = ()


class Object(list[Member]):
    """A JSON object."""


def mutate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A neighbour of ``data``; ``others`` are inputs from which parts may be taken."""
    for _ in range(rng.choice(_CHANGES)):
        data = _once(rng, data, others)
    return data[:MAX_INPUT_BYTES]


def _once(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if rng.random() < 0.6:
        try:
            tree = _read(data)
        except (ValueError, RecursionError):
            pass
        else:
            return _write(rng, _change(rng, tree, others))
    return rng.choice(_BYTE_CHANGES)(rng, data, others)


# bytes -------------------------------------------------------------------------------------------------------------


def _flip(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return bytes((rng.randrange(256),))
    at = rng.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]


def _set(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return (
        data[:at] + bytes((rng.choice((0, 0x7F, 0x80, 0xFF, 0x1F, 0x18, 0x5F, rng.randrange(256))),)) + data[at + 1 :]
    )


def _cut(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    return rng.choice((data[:start], data[end:], data[:start] + data[end:]))


def _repeat(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    times = rng.choice((1, 2, 100)) if end - start < 200 else 1
    return data[:start] + data[start:end] * times + data[start:]


def _splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others) if others else data
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _insert(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    extra = rng.choice(_LITERALS) if rng.random() < 0.5 else rng.randbytes(rng.choice((1, 2, 8, 64)))
    return data[:at] + extra + data[at:]


def _nest(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    depth = rng.choice(_DEPTHS)
    before, after = rng.choice(
        ((b"[", b"]"), (b'{"a":', b"}"), (b"\x81", b""), (b"\xa1\x00", b""), (b'{"dms":{"chain":', b"}}"))
    )
    return before * depth + data + after * depth


def _random(rng: random.Random, _data: bytes, _: Sequence[bytes]) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 2, 7, 32, 36, 37, 68, 500)))


_BYTE_CHANGES: Final[tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...]] = (
    _flip,
    _flip,
    _set,
    _cut,
    _repeat,
    _splice,
    _insert,
    _nest,
    _random,
)


# JSON --------------------------------------------------------------------------------------------------------------


def _read(data: bytes) -> Value:
    return json.loads(data.decode(), object_pairs_hook=lambda pairs: Object(Member(pair) for pair in pairs))


def _change(rng: random.Random, tree: Value, others: Sequence[bytes]) -> Value:
    """Walk down to a random place and change what is there."""
    if isinstance(tree, Object) and tree and rng.random() < 0.8:
        at = rng.randrange(len(tree))
        key, value = tree[at]
        if rng.random() < 0.65:
            return Object([*tree[:at], Member((key, _change(rng, value, others))), *tree[at + 1 :]])
        return _change_member(rng, tree, at)
    if isinstance(tree, list) and not isinstance(tree, Object) and tree and rng.random() < 0.8:
        at = rng.randrange(len(tree))
        return [
            *tree[:at],
            *rng.choice(([_change(rng, tree[at], others)], [], [tree[at]] * 2, [None])),
            *tree[at + 1 :],
        ]
    if isinstance(tree, str) and len(tree) > 8 and rng.random() < 0.6:
        return _change_text(rng, tree, others)
    return _replace(rng, tree, others)


def _change_member(rng: random.Random, tree: Object, at: int) -> Object:
    key, value = tree[at]
    rest = [*tree[:at], *tree[at + 1 :]]
    choice = rng.randrange(6)
    if choice == 0:
        return Object(rest)
    if choice == 1:
        return Object([*tree, Member((key, _replace(rng, value, ())))])
    if choice == 2:
        return Object([*tree, Member((_recase(rng, key), _replace(rng, value, ())))])
    if choice == 3:
        return Object([*rest, Member((_recase(rng, key), value))])
    if choice == 4:
        return Object([Member((rng.choice(_TEXTS), value)), *tree])
    return Object([Member((key, _replace(rng, value, ()))), *tree])


def _change_text(rng: random.Random, text: str, others: Sequence[bytes]) -> str:
    try:
        inner = base64.b64decode(text, validate=True)
        if inner[:1] in (b"{", b"["):
            return base64.b64encode(_once(rng, inner, others)).decode()
    except (ValueError, binascii.Error):
        pass
    at = rng.randrange(len(text))
    return rng.choice(
        (text[:at], text[:at] + rng.choice(text) + text[at + 1 :], text + text[at:], text.swapcase(), " " + text)
    )


def _replace(rng: random.Random, value: Value, others: Sequence[bytes]) -> Value:
    choice = rng.randrange(8)
    if choice == 0:
        return rng.choice(_NUMBERS)
    if choice == 1:
        return rng.choice(_TEXTS)
    if choice == 2:
        return rng.choice((None, True, False, [], Object(), [None], Object([Member(("", None))])))
    if choice == 3:
        for _ in range(rng.choice(_DEPTHS[:5])):
            value = [value] if rng.random() < 0.5 else Object([Member(("chain", value))])
        return value
    if choice == 4 and others:
        try:
            return _read(rng.choice(others))
        except (ValueError, RecursionError):
            return None
    if choice == 5 and isinstance(value, int) and not isinstance(value, bool):
        return value + rng.choice((1, -1, 2**32, -(2**40)))
    if choice == 6:
        return [value] * rng.choice((2, 50))
    return str(value) if isinstance(value, int) else rng.choice(_NUMBERS)


def _recase(rng: random.Random, key: str) -> str:
    return rng.choice((key.upper(), key.title(), key.swapcase(), key.replace("s", "\u017f"), key + " ", key + "\0"))


def _write(rng: random.Random, tree: Value) -> bytes:
    style = rng.randrange(5)
    text = _text_of(tree, ascii_only=style == 1, space=" " if style == 2 else "\n" if style == 3 else "")
    return text.encode("utf-8", "surrogatepass" if style == 4 else "replace")


def _text_of(tree: Value, *, ascii_only: bool, space: str) -> str:
    """Without recursion deeper than the interpreter allows: what is too deep is written as null."""
    try:
        return _text_within(tree, ascii_only, space)
    except RecursionError:
        return "null"


def _text_within(tree: Value, ascii_only: bool, space: str) -> str:
    if isinstance(tree, Object):
        members = (
            f"{json.dumps(k, ensure_ascii=ascii_only)}:{space}{_text_within(v, ascii_only, space)}" for k, v in tree
        )
        return "{" + space + f",{space}".join(members) + "}"
    if isinstance(tree, list):
        return "[" + f",{space}".join(_text_within(item, ascii_only, space) for item in tree) + space + "]"
    return json.dumps(tree, ensure_ascii=ascii_only)
