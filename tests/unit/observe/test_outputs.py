"""Outputs that follow the settings."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dms.config import Settings, load_settings
from dms.observe import EventBus
from dms.observe.outputs import OUTPUT_DROPPED, OUTPUT_SENT, OUTPUT_UP, Identity, Outputs
from dms.observe.redact import redact_text
from dms.testing.web import Answer, Asked, web_server

ELASTIC = {"DMS_OBSERVABILITY_ELASTIC_ENABLED": "true", "DMS_OBSERVABILITY_ELASTIC_API_KEY": "elastic-key-1"}
OTEL = {"DMS_OBSERVABILITY_OTEL_ENABLED": "true", "DMS_OBSERVABILITY_OTEL_ENDPOINT": "localhost:1"}
APM = {"DMS_APM_SERVER_URL": "http://127.0.0.1:1", "DMS_APM_SECRET_TOKEN": "apm-token-1"}


def settings(tmp_path: Path, *variables: dict[str, str]) -> Settings:
    env = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    for some in variables:
        env |= some
    return load_settings(None, None, env)


def outputs_of(chosen: Settings) -> Outputs:
    return Outputs(EventBus(), Identity("did:key:me", "12D3", "1"), list, chosen)


async def test_nothing_is_sent_anywhere_unless_somebody_wants_it(tmp_path: Path) -> None:
    outputs = outputs_of(settings(tmp_path))
    with trio.move_on_after(0.05):
        await outputs.run()
    assert outputs.state() == {}
    assert list(outputs.samples()) == []


async def test_outputs_come_and_go_with_the_settings(tmp_path: Path) -> None:
    outputs = outputs_of(settings(tmp_path, OTEL))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outputs.run)
        await wait_all_tasks_blocked()
        assert outputs.state().keys() == {"otel"}
        otel = outputs._running["otel"][1]
        outputs.follow(settings(tmp_path, OTEL, ELASTIC, APM))
        await wait_all_tasks_blocked(0.05)
        assert outputs.state().keys() == {"apm", "elastic", "otel"}
        assert outputs._running["otel"][1] is otel  # its settings are the same
        outputs.follow(settings(tmp_path, APM))
        await wait_all_tasks_blocked(0.05)
        assert outputs.state().keys() == {"apm"}
        nursery.cancel_scope.cancel()


async def test_what_was_counted_outlasts_a_change(tmp_path: Path) -> None:
    async def take(asked: Asked) -> Answer:
        await trio.lowlevel.checkpoint()
        return Answer(200, b'{"errors":false}')

    async with web_server(take) as web, trio.open_nursery() as nursery:
        here = {"DMS_OBSERVABILITY_ELASTIC_URL": web.url}
        outputs = outputs_of(settings(tmp_path, ELASTIC, here))
        nursery.start_soon(outputs.run)
        await wait_all_tasks_blocked(0.05)
        shipper = outputs._running["elastic"][1].shipper
        for _ in range(1_003):
            outputs._running["elastic"][1].take(20, {"message": "m", "timestamp": "t"})  # type: ignore[attr-defined]
        await shipper.flush()
        outputs.follow(settings(tmp_path, ELASTIC, here, {"DMS_OBSERVABILITY_ELASTIC_INDEX": "other"}))
        await wait_all_tasks_blocked(0.05)
        assert outputs._running["elastic"][1].shipper is not shipper
        told = {sample.metric: sample.value for sample in outputs.samples()}
        assert (told[OUTPUT_SENT], told[OUTPUT_DROPPED], told[OUTPUT_UP]) == (1_000, 3, 1)
        nursery.cancel_scope.cancel()
    assert web.asked[0].headers["authorization"] == "ApiKey elastic-key-1"


async def test_settings_that_are_not_complete_are_said_and_harm_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    incomplete = {"DMS_OBSERVABILITY_ELASTIC_ENABLED": "true", "DMS_OBSERVABILITY_OTEL_ENABLED": "true"}
    outputs = outputs_of(settings(tmp_path, incomplete))
    with trio.move_on_after(0.05):
        await outputs.run()
    assert [record.getMessage() for record in caplog.records] == ["output_incomplete", "output_incomplete"]


def test_the_keys_of_outputs_are_hidden_in_every_text(tmp_path: Path) -> None:
    outputs_of(settings(tmp_path, APM))
    assert redact_text("it sent apm-token-1 there") == "it sent [hidden] there"
