"""The logger, configured from afar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from trio.testing import MockClock

from dms.config.keys import keys
from dms.node.logger import KEYS, LoggerBehaviours
from dms.node.logger_payloads import LOGGER_CONFIG, LoggerConfig, LoggerReply
from dms.node.watch_payloads import EVENTS, EventsReply, EventsRequest
from dms.testing.nodes import Cluster
from dms.types.errors import BadInput


class Settings:
    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, Any], str]] = []

    async def change(self, values: Mapping[str, Any], by: str) -> tuple[str, ...]:
        if values.get("observability.logging.level") == "loud":
            raise BadInput("it is not a level", hint="use INFO")
        self.asked.append((dict(values), by))
        return tuple(values)


async def test_what_is_given_is_changed_in_the_name_of_who_asks(autojump_clock: MockClock, cluster: Cluster) -> None:
    alice, settings = await cluster.start("alice"), Settings()
    LoggerBehaviours(settings.change).register(alice.node.root)
    everything = {
        "level": "DEBUG",
        "url": "http://es:9200",
        "interval": 7,
        "elastic_enabled": False,
        "api_key": "k",
        "apm_url": "http://apm",
    }
    raw = await alice.user.invoke(LOGGER_CONFIG, everything, dict[str, Any])
    assert (raw["OK"], raw["changed"]) == (True, [KEYS[name] for name in everything])
    ((values, by),) = settings.asked
    assert values == {KEYS[name]: value for name, value in everything.items()}
    assert by.startswith("did:key:")
    told = await alice.user.invoke(EVENTS, EventsRequest(names=("logging_changed",)), EventsReply)
    assert told.events[0].fields == {"changed": raw["changed"], "by": by}


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (LoggerConfig(), "nothing was asked for"),
        (LoggerConfig(level="loud", interval=3), "it is not a level"),
        ({"interval": "soon"}, "interval"),
    ],
)
async def test_what_cannot_be_is_said(autojump_clock: MockClock, cluster: Cluster, asked: object, error: str) -> None:
    alice, settings = await cluster.start("alice"), Settings()
    LoggerBehaviours(settings.change).register(alice.node.root)
    reply = await alice.user.invoke(LOGGER_CONFIG, asked, LoggerReply)
    assert not reply.ok
    assert error in reply.error
    assert settings.asked == []


def test_each_member_stands_for_a_setting_that_changes_while_the_node_runs() -> None:
    assert set(KEYS) == set(LoggerConfig.__struct_fields__)
    for key in KEYS.values():
        assert keys()[key].is_live, key
