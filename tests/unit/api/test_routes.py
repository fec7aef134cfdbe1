"""The REST server: what it forwards, what it refuses, and that it does what its description says."""

from __future__ import annotations

import functools
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
import pytest
import trio
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.actor.envelope import Envelope, decode_envelope
from dms.actor.handle import NOBODY, Handle, protocol_of
from dms.api.bridge import Bridge
from dms.api.errors import RESTAddressInUse
from dms.api.openapi import BASE
from dms.api.routes import create_app
from dms.api.server import bind, run_server
from dms.node.health import WarningInfo
from dms.testing.actors import World
from dms.types import gojson
from dms.types.gojson import Wire
from dms.types.ids import Capability

JSON = {"content-type": "application/json"}
TOPIC = "/nunet/hello"
CONT = "/dms/actor/replyto/1"


class Said(Wire):
    text: str = ""


@dataclass
class Desk:
    """Two nodes; beside the first of them its REST server, a client of that, and its user."""

    world: World
    a: Actor
    b: Actor
    http: httpx2.AsyncClient
    user: Actor

    def message(self, to: Handle, behaviour: str, text: str = "", *, seconds: float = 5, **options: Any) -> Envelope:
        """A signed message of the user."""
        lifetime_ns = int(seconds * 10**9)
        message = self.user.envelope(
            to, behaviour, Said(text=text), lifetime_ns=lifetime_ns, reply_to=options.pop("cont", ""), **options
        )
        if message.opt.topic:
            return self.user.security.provide_broadcast(message, TOPIC, [Capability(behaviour)])
        delegate = [Capability(message.opt.cont)] if message.opt.cont else []
        return self.user.security.provide(message, [Capability(behaviour)], delegate)

    async def post(self, path: str, body: Envelope | bytes, **headers: str) -> httpx2.Response:
        content = body if isinstance(body, bytes) else body.encode()
        return await self.http.post(f"{BASE}/actor/{path}", content=content, headers=JSON | headers)


async def echo(message: Message[Said]) -> Said:
    return Said(text=message.payload.text.upper())


async def silent(message: Message[Said]) -> None:
    return None


@pytest.fixture
async def desk(autojump_clock: MockClock) -> AsyncIterator[Desk]:
    """The test itself must ask for ``autojump_clock``: pytest-trio looks nowhere else."""
    assert trio.lowlevel.current_clock() is autojump_clock
    world = World()
    async with world.node("a") as a, world.node("b") as b:
        await trio.sleep(1)
        for actor in (a, b):
            actor.on("/public/echo", echo, payload=Said, topic=TOPIC)
            actor.on("/broadcast/echo", echo, payload=Said, topic=TOPIC)
            actor.on("/public/silent", silent, payload=Said)
            await actor.subscribe(TOPIC)
        app = create_app(Bridge(a.network, a.security, a.handle))
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:9999") as http:
            yield Desk(world, a, b, http, world.user_actor(a))


def checked(response: httpx2.Response, status: int, error: str = "") -> Any:
    """The body, which must be JSON."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    if error:
        assert error in body["error"]
    return body


# what it does --------------------------------------------------------------------------------------------------------


async def test_the_handle_is_that_of_the_root_actor(autojump_clock: MockClock, desk: Desk) -> None:
    response = await desk.http.get(f"{BASE}/actor/handle")
    checked(response, 200)
    assert gojson.decode(response.content, Handle) == desk.a.handle
    assert response.content == gojson.encode(desk.a.handle)


async def test_health(autojump_clock: MockClock, desk: Desk) -> None:
    assert checked(await desk.http.get(f"{BASE}/health"), 200) == {"status": "ok", "peers": 1}


async def test_health_tells_what_is_wrong_and_stays_as_it_was_while_nothing_is(
    autojump_clock: MockClock, desk: Desk
) -> None:
    wrong = [WarningInfo(code="no_peers", severity="warning", text="alone", hint="call", since="2026-01-02T03:04:05Z")]
    app = create_app(Bridge(desk.a.network, desk.a.security, desk.a.handle, lambda: tuple(wrong)))
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:9999") as http:
        body = checked(await http.get(f"{BASE}/health"), 200)
        assert (body["status"], body["peers"]) == ("ok", 1)
        assert body["warnings"] == [
            {
                "code": "no_peers",
                "severity": "warning",
                "text": "alone",
                "hint": "call",
                "since": "2026-01-02T03:04:05Z",
            }
        ]
        wrong.clear()
        assert checked(await http.get(f"{BASE}/health"), 200) == {"status": "ok", "peers": 1}


@pytest.mark.parametrize("where", ["a", "b"])
async def test_an_invocation_returns_the_reply(autojump_clock: MockClock, desk: Desk, where: str) -> None:
    to = {"a": desk.a, "b": desk.b}[where].handle
    response = await desk.post("invoke", desk.message(to, "/public/echo", "hello", cont=CONT))
    checked(response, 200)
    reply = decode_envelope(response.content)
    assert reply.payload(Said).text == "HELLO"
    assert (reply.be, reply.from_) == (CONT, to)
    reply.verify(desk.user.security.now_ns())


async def test_a_message_is_sent_without_waiting(autojump_clock: MockClock, desk: Desk) -> None:
    before = desk.b.counters["dispatched"]
    response = await desk.post("send", desk.message(desk.b.handle, "/public/silent"))
    assert checked(response, 200) == {"message": "message sent"}
    await trio.sleep(1)
    assert desk.b.counters["dispatched"] == before + 1


async def test_a_broadcast_gathers_replies_until_it_expires(autojump_clock: MockClock, desk: Desk) -> None:
    begun = trio.current_time()
    message = desk.message(NOBODY, "/broadcast/echo", "hi", cont=CONT, topic=TOPIC, seconds=3)
    replies = checked(await desk.post("broadcast", message), 200)
    assert trio.current_time() - begun == pytest.approx(3)
    assert [r["from"]["addr"]["host"] for r in replies] == [desk.b.network.peer_id]


async def test_a_broadcast_that_wants_no_replies_is_not_waited_for(autojump_clock: MockClock, desk: Desk) -> None:
    begun = trio.current_time()
    message = desk.message(NOBODY, "/broadcast/echo", "hi", topic=TOPIC, seconds=3)
    assert checked(await desk.post("broadcast", message), 200) == []
    assert trio.current_time() == begun


async def test_the_content_type_may_say_its_charset(autojump_clock: MockClock, desk: Desk) -> None:
    message = desk.message(desk.b.handle, "/public/silent")
    response = await desk.post("send", message, **{"content-type": "Application/JSON; charset=utf-8"})
    checked(response, 200)


# what it refuses -----------------------------------------------------------------------------------------------------


async def test_silence_is_a_408(autojump_clock: MockClock, desk: Desk) -> None:
    message = desk.message(desk.b.handle, "/public/silent", cont=CONT, seconds=2)
    begun = trio.current_time()
    assert checked(await desk.post("invoke", message), 408)["error"] == "request timeout"
    assert trio.current_time() - begun == pytest.approx(2)
    again = desk.message(desk.b.handle, "/public/echo", cont=CONT)
    checked(await desk.post("invoke", again), 200)


async def test_an_unreachable_recipient_is_a_503(autojump_clock: MockClock, desk: Desk) -> None:
    desk.world.network.crash(desk.b.network.peer_id)
    message = desk.message(desk.b.handle, "/public/echo", cont=CONT)
    checked(await desk.post("invoke", message), 503, "cannot be reached")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"{}", b"\xff\xfe", b"[" * 5000, b'{"to":7}'])
@pytest.mark.parametrize("path", ["send", "invoke", "broadcast"])
async def test_what_is_no_message_is_a_400(autojump_clock: MockClock, desk: Desk, path: str, body: bytes) -> None:
    assert checked(await desk.post(path, body), 400, "message")["code"] == "bad_request"


async def test_messages_that_would_lead_to_nothing_are_a_400(autojump_clock: MockClock, desk: Desk) -> None:
    good = desk.message(desk.b.handle, "/public/echo", cont=CONT)
    key = desk.user.security.key

    def changed(**members: Any) -> Envelope:
        return msgspec.structs.replace(good, **members).sign(key)

    elsewhere = msgspec.structs.replace(good.from_, addr=desk.b.handle.addr)
    root = msgspec.structs.replace(good.from_, addr=desk.a.handle.addr)
    cases = [
        ("invoke", msgspec.structs.replace(good, msg=b'{"text":"x"}'), "signature verification failed"),
        ("send", msgspec.structs.replace(good, sig=b""), "signature verification failed"),
        ("invoke", changed(from_=elsewhere), "from.addr.host is not this node"),
        ("invoke", changed(from_=root), 'the inbox of a client must begin with "user"'),
        ("send", changed(to=NOBODY), "no recipient host"),
        ("invoke", desk.message(desk.b.handle, "/public/echo"), "opt.cont"),
        ("broadcast", good, "message is not a broadcast message"),
        ("send", desk.message(desk.b.handle, "/public/echo", seconds=48 * 3600), "live longer than a day"),
    ]
    for path, message, error in cases:
        checked(await desk.post(path, message), 400, error)
    await trio.sleep(10)
    checked(await desk.post("invoke", good), 400, "message expired")
    assert desk.b.counters["dispatched"] == 0


async def test_nobody_may_listen_in_the_place_of_an_actor(autojump_clock: MockClock, desk: Desk) -> None:
    """An invocation listens on the inbox that it names: the root's, or another client's, must not be taken."""
    first = desk.message(desk.b.handle, "/public/silent", cont=CONT, seconds=5)
    second = desk.message(desk.b.handle, "/public/echo", cont=CONT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.post, "invoke", first)
        await trio.sleep(1)
        checked(await desk.post("invoke", second), 409, "has a handler already")
    checked(await desk.post("invoke", desk.message(desk.b.handle, "/public/echo", cont=CONT)), 200)


async def test_only_who_was_asked_can_answer(autojump_clock: MockClock, desk: Desk) -> None:
    message = desk.message(desk.b.handle, "/public/silent", cont=CONT, seconds=3)
    inbox = protocol_of(message.from_.addr.inbox)

    async def interfere() -> None:
        await trio.sleep(0.5)
        await desk.b.network.send(desk.a.network.peer_id, inbox, b"\xff junk")
        async with desk.world.node("mallory") as mallory:
            forged = mallory.envelope(desk.user.handle, CONT, Said(text="lie")).sign(mallory.security.key)
            await mallory.network.send(desk.a.network.peer_id, inbox, forged.encode())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(interfere)
        checked(await desk.post("invoke", message), 408)


async def test_junk_among_the_replies_of_a_broadcast_is_left_out(autojump_clock: MockClock, desk: Desk) -> None:
    message = desk.message(NOBODY, "/broadcast/echo", "hi", cont=CONT, topic=TOPIC, seconds=3)

    async def interfere() -> None:
        await trio.sleep(0.5)
        for junk in (b"\xff", b"{", b"]", b"7"):
            await desk.b.network.send(desk.a.network.peer_id, protocol_of(message.from_.addr.inbox), junk)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(interfere)
        assert len(checked(await desk.post("broadcast", message), 200)) == 1


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_bodies_that_a_web_form_could_send_are_refused(autojump_clock: MockClock, desk: Desk, kind: str) -> None:
    message = desk.message(desk.b.handle, "/public/silent")
    response = await desk.post("send", message, **{"content-type": kind})
    checked(response, 400, "the content type must be application/json")
    await trio.sleep(1)
    assert desk.b.counters["dispatched"] == 0


async def test_a_body_that_no_frame_could_hold_is_refused(autojump_clock: MockClock, desk: Desk) -> None:
    sent: list[Any] = []
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 65536
        return {"type": "http.request", "body": b" " * 65536, "more_body": True}

    async def send(part: Any) -> None:
        sent.append(part)

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{BASE}/actor/send",
        "raw_path": f"{BASE}/actor/send".encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }
    await create_app(Bridge(desk.a.network, desk.a.security, desk.a.handle))(scope, receive, send)
    assert sent[0]["status"] == 400
    assert json.loads(sent[1]["body"])["error"] == "message too large"
    assert taken <= (1 << 20) + 65536, "no more is read than a frame holds"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9999", "10.0.0.7", "localhost.evil.example", ""])
async def test_names_of_others_are_not_answered(autojump_clock: MockClock, desk: Desk, host: str) -> None:
    """A web page elsewhere must not reach this server through a name of its own that leads here."""
    response = await desk.http.get(f"{BASE}/actor/handle", headers={"host": host})
    assert response.status_code == 400
    assert "Invalid host header" in response.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9999", "LOCALHOST", "[::1]:9999"])
async def test_our_own_names_are_answered(autojump_clock: MockClock, desk: Desk, host: str) -> None:
    checked(await desk.http.get(f"{BASE}/actor/handle", headers={"host": host}), 200)


async def test_pages_of_others_are_not_allowed_in(autojump_clock: MockClock, desk: Desk) -> None:
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    for origin, allowed in (
        ("http://localhost:9991", True),
        ("http://localhost:9992", True),
        ("https://evil.example", False),
    ):
        response = await desk.http.options(f"{BASE}/actor/send", headers=ask | {"origin": origin})
        assert (response.headers.get("access-control-allow-origin") == origin) is allowed


async def test_unknown_paths_and_methods_are_errors(autojump_clock: MockClock, desk: Desk) -> None:
    assert checked(await desk.http.get(f"{BASE}/device"), 404) == {"error": "not found"}
    refused = await desk.http.get(f"{BASE}/actor/send")
    assert (refused.status_code, refused.json()["error"]) == (405, "method not allowed")
    assert refused.headers["allow"] == "POST"
    assert (await desk.http.get("/docs")).status_code == 404


async def test_a_crash_inside_tells_nothing_of_the_inside(autojump_clock: MockClock, desk: Desk) -> None:
    async def broken(body: bytes) -> None:
        raise ZeroDivisionError("secret")

    bridge = Bridge(desk.a.network, desk.a.security, desk.a.handle)
    bridge.send = broken  # type: ignore[method-assign]
    transport = httpx2.ASGITransport(app=create_app(bridge), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        response = await http.post(f"{BASE}/actor/send", content=b"{}", headers=JSON)
    assert response.status_code == 500
    assert "secret" not in response.text


# its description -----------------------------------------------------------------------------------------------------


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        parts = schema["$ref"].removeprefix("#/").split("/")
        schema = functools.reduce(lambda place, part: place[part], parts, document)
    return schema


def agrees(document: dict[str, Any], schema: dict[str, Any], value: Any, path: str = "$") -> None:
    """Whether a value is what a schema of the document says: types, members, and no member that it does not know."""
    schema = resolve(document, schema)
    if "anyOf" in schema:
        kinds = [resolve(document, s).get("type") for s in schema["anyOf"]]
        assert json_type(value) in kinds, path
        return
    kind = schema["type"]
    assert json_type(value) == kind or (kind == "number" and json_type(value) == "integer"), f"{path} is no {kind}"
    if kind == "array":
        for index, item in enumerate(value):
            agrees(document, schema["items"], item, f"{path}[{index}]")
    if kind == "object" and "properties" in schema:
        assert set(schema.get("required", ())) <= value.keys(), path
        for key, member in value.items():
            agrees(document, schema["properties"][key], member, f"{path}.{key}")


def json_type(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


async def test_the_description_is_complete_and_true(autojump_clock: MockClock, desk: Desk) -> None:
    document = checked(await desk.http.get(f"{BASE}/openapi.json"), 200)
    paths = document["paths"]
    assert {(path, method) for path, item in paths.items() for method in item} == {
        (f"{BASE}/actor/handle", "get"),
        (f"{BASE}/actor/send", "post"),
        (f"{BASE}/actor/invoke", "post"),
        (f"{BASE}/actor/broadcast", "post"),
        (f"{BASE}/health", "get"),
    }
    references = [part.split('"')[0] for part in json.dumps(document).split('"$ref": "')[1:]]
    assert references
    for reference in references:
        assert resolve(document, {"$ref": reference})
    echo_b = functools.partial(desk.message, desk.b.handle, "/public/echo", "x")
    answers = [
        ("actor/handle", await desk.http.get(f"{BASE}/actor/handle")),
        ("health", await desk.http.get(f"{BASE}/health")),
        ("actor/send", await desk.post("send", echo_b())),
        ("actor/send", await desk.post("send", b"{")),
        ("actor/invoke", await desk.post("invoke", echo_b(cont=CONT))),
        ("actor/invoke", await desk.post("invoke", desk.message(desk.b.handle, "/public/silent", cont=CONT))),
        (
            "actor/broadcast",
            await desk.post("broadcast", desk.message(NOBODY, "/broadcast/echo", topic=TOPIC, cont=CONT)),
        ),
    ]
    for path, response in answers:
        (operation,) = paths[f"{BASE}/{path}"].values()
        assert operation["summary"]
        described = operation["responses"][str(response.status_code)]
        agrees(document, described["content"]["application/json"]["schema"], response.json())
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            agrees(document, schema, json.loads(echo_b(cont=CONT).encode()))
    assert [r.status_code for _, r in answers] == [200, 200, 200, 400, 200, 408, 200]


# over a real socket --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Actor, int]]:
    world = World()
    async with world.node("a") as a, trio.open_nursery() as nursery:
        listener = bind("127.0.0.1", 0)
        port = listener.getsockname()[1]
        await nursery.start(run_server, Bridge(a.network, a.security, a.handle), listener)
        yield a, port
        nursery.cancel_scope.cancel()


async def test_it_serves_over_a_socket_and_stops() -> None:
    async with serving() as (a, port), httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        response = await http.get(f"{BASE}/actor/handle")
        assert gojson.decode(response.content, Handle) == a.handle
        assert "server" not in response.headers
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_an_address_that_is_taken_is_said_at_once() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RESTAddressInUse, match=f"127.0.0.1:{port}"):
            bind("127.0.0.1", port)
    with pytest.raises(RESTAddressInUse):
        bind("192.0.2.1", 0)


async def test_garbage_on_the_port_hurts_nobody() -> None:
    async with serving() as (_a, port):
        for garbage in (b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST", b"\x16\x03\x01\x02\x00"):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                await stream.send_all(garbage)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.get(f"{BASE}/health")).json()["status"] == "ok"
