"""Against a stand-in on loopback that speaks the bulk API."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from dms.observe import EventBus, configure_logging, get_logger
from dms.observe.catalogue import PEER_CONNECTED
from dms.observe.elastic import ElasticOutput, indices_of, outcome
from dms.observe.errors import DeliveryDenied, NotDelivered
from dms.observe.posting import Poster
from dms.testing.web import Answer, Asked, web_server

KEY = "dGhlLWlkOnRoZS1zZWNyZXQta2V5"


class Elastic:
    """What a server of Elasticsearch does with a bulk request; faults on demand."""

    def __init__(self) -> None:
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self.status = 200
        self.statuses: list[int] = []
        """Of the next documents; 201 afterwards."""
        self.hold = False
        self.body: bytes | None = None

    async def __call__(self, asked: Asked) -> Answer:
        await trio.lowlevel.checkpoint()
        if asked.headers.get("authorization") != f"ApiKey {KEY}":
            return Answer(401)
        if self.hold:
            return Answer(200, b"{}", hold=True, cut_after=1)
        if self.status != 200 or asked.method == "GET":
            return Answer(self.status, b"busy")
        assert (asked.path, asked.headers["content-type"]) == ("/_bulk", "application/x-ndjson")
        lines = asked.body.split(b"\n")
        assert lines.pop() == b""
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            status = self.statuses.pop(0) if self.statuses else 201
            if status == 201:
                self.documents.append((json.loads(action)["create"]["_index"], json.loads(document)))
            items.append({"create": {"status": status} | ({} if status == 201 else {"error": {"reason": "no"}})})
        answer = {"errors": any(i["create"]["status"] != 201 for i in items), "items": items}
        return Answer(200, self.body if self.body is not None else json.dumps(answer).encode())

    @property
    def messages(self) -> list[str]:
        return [document["message"] for _, document in self.documents]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    configure_logging("INFO", tmp_path / "dms.jsonl", console=io.StringIO(), did="did:key:me")
    yield tmp_path / "dms.jsonl"
    for handler in [h for h in logging.getLogger().handlers if getattr(h, "installed_by_dms", False)]:
        logging.getLogger().removeHandler(handler)
        handler.close()
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("dms").setLevel(logging.NOTSET)


def output_to(url: str, bus: EventBus, *, key: str = KEY) -> ElasticOutput:
    return ElasticOutput(Poster(url, {"Authorization": f"ApiKey {key}"}), "nunet-dms", bus, did="did:key:me")


@contextmanager
def collecting(output: ElasticOutput) -> Iterator[None]:
    from dms.observe.log import add_tap

    remove = add_tap(output.take)
    yield
    remove()


async def test_entries_and_events_arrive_where_their_labels_send_them(file: Path) -> None:
    server, bus = Elastic(), EventBus(now=lambda: 1.5)
    log = get_logger("dms.test")
    async with web_server(server) as web:
        output = output_to(web.url, bus)
        bus.listen(output.take_event)
        with collecting(output):
            log.info("plain", n=1, api_key="hunter2")
            log.info("paid", labels="accounting")
            log.info("both", labels=["metric", "node", "nonsense"])
            log.info("own", es_index="my-index")
            log.info("kept", es_skip=True)
            bus.emit(PEER_CONNECTED, peer="12D3")
            assert await output.shipper.flush() == 0.0
        await output._poster.aclose()
    assert [(index, document["message"]) for index, document in server.documents] == [
        ("nunet-dms", "plain"),
        ("accounting-index", "paid"),
        ("metric-index", "both"),
        ("node-index", "both"),
        ("my-index", "own"),
        ("node-index", "peer_connected"),
    ]
    plain, event = server.documents[0][1], server.documents[-1][1]
    assert plain["did"] == event["did"] == "did:key:me"
    assert plain["api_key"] == "[hidden]"
    assert plain["@timestamp"] == plain["timestamp"]
    assert (event["peer"], event["labels"], event["timestamp"]) == ("12D3", ["node"], "1970-01-01T00:00:01.500Z")
    assert "es_index" not in server.documents[4][1]


async def test_preflight_finds_wrong_credentials_and_the_key_is_in_no_log(file: Path) -> None:
    server = Elastic()
    async with web_server(server) as web:
        output = output_to(web.url, EventBus(), key="d3Jvbmcta2V5LXRoYXQtaXMtbG9uZw==")
        with pytest.raises(DeliveryDenied, match=r"invalid credentials \(401 unauthorized\)"):
            await output._preflight()
        with trio.move_on_after(0.2):
            await output.run()
        assert output.shipper.outage.is_out
        assert "d3Jvbmct" not in repr(output._poster)
    said = file.read_text()  # noqa: ASYNC240
    assert "invalid credentials" in said
    assert "d3Jvbmct" not in said


async def test_documents_that_it_refuses_are_counted_and_those_without_room_are_sent_again(file: Path) -> None:
    server = Elastic()
    log = get_logger("dms.test")
    async with web_server(server) as web:
        output = output_to(web.url, EventBus())
        server.statuses = [201, 400, 429, 503, 409]
        with collecting(output):
            for n in range(6):
                log.info(f"n{n}")  # noqa: G004
        assert await output.shipper.flush() > 0
        assert server.messages == ["n0", "n5"]
        assert await output.shipper.flush() == 0
        await output._poster.aclose()
    assert server.messages == ["n0", "n5", "n2", "n3"]
    assert (output.outbox.counts.sent, output.outbox.counts.rejected, len(output.outbox)) == (5, 1, 0)


@pytest.mark.parametrize("fault", ["status", "nonsense", "items", "gone"])
async def test_an_outage_keeps_entries_and_passes(file: Path, fault: str) -> None:
    server = Elastic()
    async with web_server(server) as web:
        output = output_to(web.url if fault != "gone" else "http://127.0.0.1:1", EventBus())
        with collecting(output):
            get_logger("dms.test").info("kept")
        server.status = 503 if fault == "status" else 200
        server.body = {"nonsense": b"<html>", "items": b'{"errors":true,"items":[]}'}.get(fault)
        assert await output.shipper.flush() > 0
        assert len(output.outbox) == 1
        server.status, server.body, output._poster.url = 200, None, web.url
        server.documents.clear()
        assert await output.shipper.flush() == 0.0
        await output._poster.aclose()
    assert server.messages == ["kept"]


async def test_a_server_that_holds_its_answer_back_is_left_after_the_deadline() -> None:
    server = Elastic()
    server.hold = True
    async with web_server(server) as web:
        poster = Poster(web.url, {"Authorization": f"ApiKey {KEY}"}, timeout_s=0.2)
        with pytest.raises(NotDelivered, match=r"does not answer within 0\.2 s"):
            await poster.post("/_bulk", b"{}")
        await poster.aclose()


def test_what_the_delivery_itself_says_is_not_delivered() -> None:
    output = output_to("http://127.0.0.1:1", EventBus())
    for logger in ("httpx2", "httpcore2.connection", "dms.observe.shipper"):
        output.take(20, {"message": "x", "logger": logger})
    assert len(output.outbox) == 0


def test_routing_takes_nothing_else_for_an_index() -> None:
    assert indices_of({"es_index": "../_security"}, "d") == ("d",)
    assert indices_of({"es_index": 'a"}}', "labels": "contract"}, "d") == ("contract-index",)
    assert indices_of({"labels": ["default", "default"]}, "d") == ("d",)
    assert indices_of({"labels": {"a": 1}}, "d") == ("d",)
    assert indices_of({"es_skip": True, "labels": "user"}, "d") == ()


def test_answers_that_make_no_sense_are_no_success() -> None:
    assert outcome(b'{"errors":false}', 3).again == frozenset()
    for answer in (b"", b"[]", b'{"errors":true}', b'{"errors":true,"items":[1,2]}'):
        with pytest.raises(NotDelivered):
            outcome(answer, 1)
    assert outcome(b'{"errors":true,"items":["x"]}', 1).again == frozenset({0})
