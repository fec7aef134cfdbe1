"""Bad inputs for each layer and protocol of a node, drawn from a random generator that is passed in."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

from tests.fuzz.live.seeds import PEER, Corpus, corpus_of, fields, varint
from tests.fuzz.mutation import mutate

MULTISTREAM = "multistream"
NOISE = "noise"
YAMUX = "yamux"
LAYERS = (MULTISTREAM, NOISE, YAMUX)
"""What lies below the protocols."""

MAX_BYTES = 70_000

_GREETING = "/multistream/1.0.0"


def bad_message(rng: random.Random, corpus: Corpus) -> bytes:
    """What is sent to a protocol: mostly a changed message in a good frame, else a bad or truncated frame, or anything."""
    message = rng.choice(corpus.messages)
    choice = rng.random()
    if choice < 0.45:
        return corpus.frame(mutate(rng, message, corpus.messages)[:MAX_BYTES])
    if choice < 0.6:
        return corpus.frame(_random_fields(rng, 0))
    if choice < 0.8:
        framed = corpus.frame(message)
        return framed[: rng.randrange(len(framed) + 1)]
    if choice < 0.95:
        return mutate(rng, corpus.frame(message), corpus.messages)[:MAX_BYTES]
    return b"".join(corpus.frame(rng.choice(corpus.messages)) for _ in range(rng.choice((2, 50))))


def bad_negotiation(rng: random.Random, protocols: Sequence[str]) -> bytes:
    """Lines of multistream-select that make no sense."""
    words = [_GREETING, "ls", "na", "", "/plaintext/2.0.0", *protocols]
    lines = [_line(rng.choice(words)) for _ in range(rng.choice((1, 2, 3, 20)))]
    if rng.random() < 0.5:
        lines.insert(0, _line(_GREETING))
    return mutate(rng, b"".join(lines), [_line(word) for word in words])[:MAX_BYTES]


def bad_handshake(rng: random.Random) -> bytes:
    """What is sent to an open port instead of a handshake of Noise."""
    first = rng.randbytes(32)
    good = _line(_GREETING) + _line("/noise") + struct.pack(">H", len(first)) + first
    payload = fields((1, PEER), (2, rng.randbytes(64)))
    more = struct.pack(">H", len(payload)) + payload
    return mutate(rng, good + more if rng.random() < 0.5 else good, [more, b"GET / HTTP/1.1\r\n\r\n"])[:MAX_BYTES]


def bad_frames(rng: random.Random) -> bytes:
    """Frames of yamux: of wrong types and lengths, of streams that there are not, and not whole."""
    out = b""
    for _ in range(rng.choice((1, 1, 3, 30))):
        body = rng.randbytes(rng.choice((0, 0, 1, 12, 300)))
        kind = rng.choice((0, 0, 1, 1, 2, 3, 4, 255))
        flags = rng.choice((0, 0, 1, 2, 4, 8, 3, 0xFFFF))
        stream = rng.choice((0, 1, 2, 3, 99, 0xFFFFFFFF))
        length = rng.choice((len(body), len(body), 0, 1, 262144, 0x7FFFFFFF, 0xFFFFFFFF))
        version = rng.choice((0, 0, 0, 0, 1))
        out += struct.pack(">BBHII", version, kind, flags, stream, length) + body
    return out[: rng.choice((len(out), rng.randrange(len(out) + 1)))]


def corpora(protocols: Sequence[str]) -> dict[str, Corpus]:
    """Of every protocol its corpus.

    :raises AssertionError: some have none.
    """
    found = {protocol: corpus_of(protocol) for protocol in protocols}
    missing = sorted(protocol for protocol, corpus in found.items() if corpus is None)
    assert not missing, f"nobody wrote good inputs for {', '.join(missing)}: add them to tests/fuzz/live/seeds.py"
    return {protocol: corpus for protocol, corpus in found.items() if corpus is not None}


def _line(text: str) -> bytes:
    data = text.encode() + b"\n"
    return varint(len(data)) + data


def _random_fields(rng: random.Random, depth: int) -> bytes:
    """A message that parses and means nothing."""
    out = b""
    for _ in range(rng.randrange(1, 6)):
        number = rng.randrange(1, 12)
        kind = rng.random()
        if kind < 0.3:
            out += fields((number, rng.choice((0, 1, 5, 127, 2**31, 2**32 - 1, 2**63, 2**64 - 1))))
        elif kind < 0.7 or depth > 3:
            out += fields((number, rng.choice((b"", PEER, rng.randbytes(rng.randrange(60))))))
        else:
            out += fields((number, _random_fields(rng, depth + 1)))
    return out
