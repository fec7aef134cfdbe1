"""Bytes that two readers might understand differently, or one not at all: what is done is what was signed, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
from tests.adversary.attacker import Json, Person, token_list, write_json
from tests.adversary.scene import Scene, Target, Wire
from trio.testing import MockClock

NOTE, PING, SECRET = "/public/note", "/public/ping", "/dms/node/secret"


async def _is_alive(scene: Scene, target: Target, wire: Wire) -> None:
    """After every attack an honest message arrives, and it alone."""
    before = list(target.handled)
    await wire.send(target, wire.person.sign(scene.request(wire.person, target.handle, payload="alive")))
    assert target.handled == [*before, (NOTE, wire.person.did, "alive")]


# duplicate keys and case -------------------------------------------------------------------------------------------


async def test_a_second_key_must_not_change_what_was_signed(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """The signature of one, the meaning of the other: the member's right to the first does not open the second."""
    thief = mallory.person
    signed = thief.sign(scene.request(thief, victim.handle, PING, tokens=[scene.invocation(thief, PING)]))
    for name in ("be", "BE", "Be", "bE"):
        for old in (b'"be":"/public/ping"',):
            for new in (b'"be":"/dms/node/secret"', b'"be":"/public/note"'):
                other = new.replace(b'"be"', b'"%b"' % name.encode())
                await mallory.send(victim, signed.replace(old, old + b"," + other))
                await mallory.send(victim, signed.replace(old, other))
                await mallory.send(victim, signed[:-1] + b"," + other + b"}")
    assert [behaviour for behaviour, _, _ in victim.handled if behaviour != PING] == []
    for old, new in (
        (b'"msg":', b'"msg":"e30=","MSG":'),
        (b'"nonce":', b'"Nonce":7,"nonce":'),
    ):
        await mallory.send(victim, signed.replace(old, new))
    assert [handled for handled in victim.handled if handled != (PING, thief.did, None)] == []


async def test_a_second_key_inside_a_token_must_not_widen_it(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief = mallory.person
    blob = token_list([scene.invocation(thief, PING, chain=scene.membership(thief, caps=(PING,)))])
    old = b'"cap":["/public/ping"]'
    assert blob.count(old) == 2
    for name in ("cap", "CAP", "Cap"):
        for value in (b'["/"]', b'["/public/note"]', b'["/public/ping","/public/note"]'):
            other = b'"%b":%b' % (name.encode(), value)
            for forged in (
                blob.replace(old, old + b"," + other),
                blob.replace(old, other + b"," + old),
                blob.replace(old, other),
                blob.replace(old, old + b"," + other + b',"cap":null'),
            ):
                await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, NOTE, tokens=forged)))
    for old, new in (
        (b'"act":"invoke"', b'"act":"invoke","act":"delegate"'),
        (b'"chain":', b'"chain":null,"CHAIN":'),
        (b'"dms":', b'"dms":null,"ucan":{},"dms":'),
        (b'"depth":1', b'"depth":1,"depth":0'),
    ):
        await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, NOTE, tokens=blob.replace(old, new))))
    assert victim.handled == []
    await _is_alive(scene, victim, mallory)


async def test_a_duplicate_must_not_hide_a_depth_limit_or_an_audience(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief, alice = mallory.person, Person("alice")
    bound = scene.membership(alice, depth=1, aud=Person("elsewhere").did)
    onward = alice.token("delegate", thief.did, ["/public"], exp=scene.exp(), chain=bound)
    blob = token_list([scene.invocation(thief, NOTE, chain=onward)])
    hidden = blob
    for old, new in ((b'"depth":1', b'"depth":1,"Depth":0'), (b'"aud":{"uri"', b'"aud":{},"AUD":{"URI"')):
        assert old in hidden
        hidden = hidden.replace(old, new)
        for forged in (hidden, blob.replace(old, new), blob.replace(old, new.lower())):
            await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=forged)))
    assert victim.handled == []


async def test_keys_that_only_look_alike_must_not_be_taken_for_each_other(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """Go folds U+017F to s and U+212A to k; whatever we do, what is handled must be what was signed."""
    thief = mallory.person
    signed = thief.sign(scene.request(thief, victim.handle, PING, tokens=[scene.invocation(thief, PING)]))
    for old, new in (
        ("msg", "m\u017fg"),
        ("sig", "\u017fig"),
        ("from", "from\u200b"),
        ("be", "b\u0435"),
        ("to", "t\u03bf"),
    ):
        await mallory.send(victim, signed.replace(f'"{old}"'.encode(), f'"{new}"'.encode(), 1))
    assert [handled for handled in victim.handled if handled != (PING, thief.did, None)] == []
    await _is_alive(scene, victim, mallory)


async def test_escapes_must_not_smuggle_another_behaviour_or_payload_in(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    r"""``\u002f`` is ``/``; the same message in other words is the same message."""
    thief = mallory.person
    signed = thief.sign(scene.request(thief, victim.handle, PING, tokens=[scene.invocation(thief, PING)]))
    await mallory.send(victim, signed.replace(b'"be":"/public/ping"', b'"b\\u0065":"\\u002fpublic\\/ping"'))
    assert victim.handled == [(PING, thief.did, None)]
    await mallory.send(victim, signed)
    for bad in (b'"/public/ping\\ud800"', b'"/public/ping\xff"', b'"/public/ping\\u0000"', b'"\xed\xa0\x80"'):
        await mallory.send(victim, signed.replace(b'"/public/ping"', bad))
    assert len(victim.handled) == 1


# nulls and wrong types ---------------------------------------------------------------------------------------------

NULLS: Sequence[bytes] = (
    b'{"tok":[null]}',
    b'{"tok":[null,null,null]}',
    b'{"tok":[' + b"null," * 3000 + b"null]}",
    b'{"tok":null}',
    b'{"tok":[{}]}',
    b'{"tok":[{"dms":null}]}',
    b'{"tok":[{"ucan":{}}]}',
    b'{"tok":[{"ucan":null}]}',
    b'{"tok":[{"dms":{}}]}',
    b'{"tok":[{"dms":{"act":"invoke","chain":null}}]}',
    b'{"tok":[{"dms":{"act":"invoke","chain":{}}}]}',
    b'{"tok":[{"dms":{"act":"invoke","chain":{"dms":null}}}]}',
    b'{"tok":[{"dms":{"act":null,"iss":null,"sub":null,"aud":null,"cap":null,"nonce":null,"exp":null}}]}',
    b'{"tok":[{"dms":{"iss":{"uri":null},"sub":{},"cap":[null],"topic":[null]}}]}',
    b"null",
    b"[]",
    b"7",
    b'"tok"',
    b'{"tok":{}}',
    b'{"tok":[[]]}',
    b'{"tok":["x"]}',
    b'{"tok":[{"dms":[]}]}',
    b'{"tok":[{"dms":{"exp":-1}}]}',
    b'{"tok":[{"dms":{"exp":1.5}}]}',
    b'{"tok":[{"dms":{"exp":"1"}}]}',
    b'{"tok":[{"dms":{"depth":-1}}]}',
    b"{",
    b"\xff\xfe",
    b"\0",
)


@pytest.mark.parametrize("blob", NULLS, ids=lambda blob: blob[:40].decode("latin-1"))
async def test_null_and_broken_tokens_must_neither_authorise_nor_harm(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, blob: bytes
) -> None:
    thief = mallory.person
    for behaviour in (NOTE, SECRET):
        await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, behaviour, tokens=blob)))
        await mallory.network.publish("/nunet/hello", thief.sign(scene.broadcast(thief, tokens=blob)))
    assert victim.handled == []
    await _is_alive(scene, victim, mallory)


async def test_a_null_token_beside_a_good_one_must_not_be_more_than_nothing(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief = mallory.person
    tokens: list[object] = [None, {}, {"dms": None}, scene.invocation(thief, NOTE), {"ucan": {}}]
    await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=tokens)))
    await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, SECRET, tokens=tokens)))
    assert [behaviour for behaviour, _, _ in victim.handled] in ([], [NOTE])


async def test_a_chain_cut_off_by_null_must_not_count_as_grant(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief = mallory.person
    chains: list[Json | None] = [None, {}, {"dms": None}, {"ucan": {}}]
    for chain in chains:
        token = scene.invocation(thief, NOTE, chain=chain)
        if chain is None:
            token["dms"]["chain"] = None
        await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=[token])))
    assert victim.handled == []


def _shapes(message: Json) -> list[object]:
    value: object
    shapes: list[object] = [None, [], "x", 7, {}, [message], {"to": message}]
    for key in ("to", "be", "from", "nonce", "opt", "msg", "cap", "sig"):
        for value in (None, [], {}, 7, -1, 1.5, "x", True, [None], {"": None}):
            shapes.append(message | {key: value})  # noqa: PERF401
        shapes.append({k: v for k, v in message.items() if k != key})
    for key in ("id", "did", "addr"):
        for value in (None, [], "x", 7, {"pub": None}, {"uri": 7}, {"host": []}, {"inbox": {}}):
            shapes.append(message | {"from": message["from"] | {key: value}})
            shapes.append(message | {"to": message["to"] | {key: value}})
    return shapes


async def test_an_envelope_of_the_wrong_shape_must_neither_pass_nor_harm(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    thief = mallory.person
    message = scene.request(thief, victim.handle, payload={"a": [1]})
    whole = message | {"sig": thief.signature(message)}
    for shape in _shapes(whole):
        if shape == whole:
            continue
        await mallory.send(victim, write_json(shape), settle=False)
    for shape in _shapes(message):
        if isinstance(shape, dict):
            await mallory.send(victim, thief.sign(shape), settle=False)
    await mallory.send(victim, b"end of shapes")
    assert [handled for handled in victim.handled if handled[2] not in ({"a": [1]}, None)] == []
    await _is_alive(scene, victim, mallory)


# size, depth and numbers -------------------------------------------------------------------------------------------


async def test_a_token_list_must_not_have_more_than_16384_bytes(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """Exactly so many are read; one more is refused, although the additional bytes mean nothing."""
    thief = mallory.person
    blob = token_list([scene.invocation(thief, NOTE)])
    for size, handled in ((16384, 1), (16385, 1), (20_000, 1), (500_000, 1)):
        padded = blob[:-1] + b" " * (size - len(blob)) + b"}"
        assert len(padded) == size
        await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=padded)))
        assert len(victim.handled) == handled
    await _is_alive(scene, victim, mallory)


async def test_a_full_list_of_useless_tokens_must_not_cost_more_than_itself(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    """Sixteen KiB of tokens that verify, of tokens that do not, and of the shortest there are; the last one counts."""
    thief = mallory.person
    good = scene.invocation(thief, NOTE)
    useless = [thief.token("invoke", thief.did, [f"/public/{n}"], exp=scene.exp()) for n in range(40)]
    forged = [{"dms": token["dms"] | {"cap": [NOTE]}} for token in useless]
    short: list[Json] = [{"dms": {}}] * 1000
    plain: list[Json] = [{"dms": {"act": "invoke", "sub": {"uri": thief.did}}}] * 150
    for crowd in (useless, forged, short, plain):
        tokens = [*crowd, good]
        while len(token_list(tokens)) > 16384:
            del tokens[0]
        await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=tokens)))
    assert len(victim.handled) == 4


def _nested(pair: str, depth: int) -> bytes:
    return (pair[0] * depth + pair[1] * depth).encode()


@pytest.mark.parametrize("depth", [65, 500, 5_000, 100_000])
async def test_deep_nesting_must_not_exhaust_the_reader(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, depth: int
) -> None:
    thief = mallory.person
    brackets = _nested("[]", depth)
    objects = b'{"a":' * depth + b"1" + b"}" * depth
    chain = b'{"dms":{"chain":' * (depth // 3) + b"null" + b"}}" * (depth // 3)
    for deep in (brackets, objects, chain):
        await mallory.send(victim, deep)
        await mallory.send(victim, b"[" * depth)
        for name in (b"to", b"be", b"from", b"opt", b"msg", b"cap", b"unknown"):
            await mallory.send(victim, b'{"%b":%b}' % (name, deep), settle=False)
        for blob in (deep, b'{"tok":[%b]}' % deep, b'{"unknown":%b}' % deep):
            await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, SECRET, tokens=blob)))
        await mallory.send(
            victim, thief.sign(scene.request(thief, victim.handle, "/dms/deployment/request", payload=deep))
        )
    await mallory.send(victim, b"end")
    assert {behaviour for behaviour, _, _ in victim.handled} <= {"/dms/deployment/request"}
    victim.handled.clear()
    await _is_alive(scene, victim, mallory)


HUGE = (
    "1" + "0" * 30,
    "9" * 4000,
    "9" * 100_000,
    "-1",
    "1.5",
    "1e3",
    "1e400",
    "-0",
    "18446744073709551616",
    "NaN",
    "Infinity",
)


@pytest.mark.parametrize("place", ["nonce", "opt.exp", "token.exp", "token.depth", "payload"])
@pytest.mark.parametrize("number", HUGE, ids=lambda text: text[:12])
async def test_numbers_that_no_field_can_hold_must_not_be_taken(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, place: str, number: str
) -> None:
    """All times, nonces and depths are unsigned 64-bit numbers in every other program that reads them."""
    thief = mallory.person
    if place.startswith("token"):
        blob = _token_with(scene, thief, place.removeprefix("token."), number)
        await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, tokens=blob)))
    elif place == "payload":
        await mallory.send(victim, thief.sign(scene.request(thief, victim.handle, PING, payload=number.encode())))
        victim.handled.clear()
    else:
        await mallory.send(victim, _envelope_with(scene, thief, victim, place, number))
    assert victim.handled == []
    await _is_alive(scene, victim, mallory)


def _token_with(scene: Scene, thief: Person, member: str, number: str) -> bytes:
    marker = 1234567890123
    token = scene.invocation(thief, NOTE, **({"exp": marker} if member == "exp" else {"depth": marker}))
    body = {key: value for key, value in token["dms"].items() if key != "sig"}
    text = write_json(body).replace(str(marker).encode(), number.encode())
    signature = write_json(thief.key.sign(b"dms:token:" + text))
    return b'{"tok":[{"dms":%b,"sig":%b}}]}' % (text[:-1], signature)


def _envelope_with(scene: Scene, thief: Person, victim: Target, place: str, number: str) -> bytes:
    marker = 1234567890123
    message = scene.request(thief, victim.handle)
    if place == "nonce":
        message["nonce"] = marker
    else:
        message["opt"] = {"exp": marker}
    text = write_json(message).replace(str(marker).encode(), number.encode())
    signature = write_json(thief.key.sign(b"dms:msg:" + text))
    return b'%b,"sig":%b}' % (text[:-1], signature)


# garbage -----------------------------------------------------------------------------------------------------------

GARBAGE: Sequence[Callable[[bytes], bytes]] = (
    lambda data: b"\0",
    lambda data: b"\xff" * 1000,
    lambda data: bytes(range(256)) * 20,
    lambda data: data[: len(data) // 2],
    lambda data: data + data,
    lambda data: data[::-1],
    lambda data: b"\xef\xbb\xbf" + data,
    lambda data: data.decode().encode("utf-16"),
    lambda data: data.replace(b'"', b"'"),
    lambda data: data.replace(b":", b"::"),
    lambda data: data.replace(b"{", b"{,"),
    lambda data: b"GET / HTTP/1.1\r\n\r\n",
    lambda data: b"x" * 1_000_000,
    lambda data: b"[" + b"0," * 400_000 + b"0]",
    lambda data: b'{"a":"' + b"\\" * 900_000,
    lambda data: b'{"' + b'":0,"'.join(b"%d" % n for n in range(50_000)) + b'":0}',
    lambda data: data[:-1] + b"," + b",".join(b'"%d":0' % n for n in range(50_000)) + b',"be":"/dms/node/secret"}',
)


@pytest.mark.parametrize("number", range(len(GARBAGE)))
async def test_garbage_must_not_be_handled_nor_harm(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire, number: int
) -> None:
    data = GARBAGE[number](mallory.person.sign(scene.request(mallory.person, victim.handle)))
    await mallory.send(victim, data)
    if len(data) < 100_000:
        await mallory.network.publish("/nunet/hello", data)
    assert victim.handled == []
    await _is_alive(scene, victim, mallory)


async def test_a_payload_that_is_not_json_must_not_reach_a_handler(
    autojump_clock: MockClock, scene: Scene, victim: Target, mallory: Wire
) -> None:
    for payload in (b"{", b"\xff", b"nul", b"'", b"[1,]", b'{"a"}', b"\0", json.dumps("x").encode()[:-1]):
        await mallory.send(victim, mallory.person.sign(scene.request(mallory.person, victim.handle, payload=payload)))
    assert victim.handled == []
    await _is_alive(scene, victim, mallory)
