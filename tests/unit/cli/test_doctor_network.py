"""``nunet doctor network``."""

from __future__ import annotations

import json

from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon

REPLY = {
    "ok": True,
    "summary": "3 peers tried to dial this node and could not",
    "status": "private",
    "confidence": 3,
    "addresses": [
        {"address": "/ip4/5.6.7.8/tcp/9000", "told": True, "failed_for": 3, "why": "no answer within 12 s"},
        {"address": "/ip4/10.0.0.7/tcp/9000", "told": True},
    ],
    "findings": [
        {
            "level": "problem",
            "about": "reach",
            "text": "3 peers tried to dial this node and could not",
            "hint": "let 9000/tcp through the firewall",
        },
        {"level": "ok", "about": "seen as", "text": "peers see this node at 5.6.7.8 (3 of them)"},
    ],
}
PATH = "/dms/node/doctor/network"


def test_a_node_that_cannot_be_reached_is_told_why_and_what_mends_it(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[PATH] = lambda _payload: REPLY
    done = nunet("doctor", "network")
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("3 peers tried to dial this node and could not.\n")
    assert "→ let 9000/tcp through the firewall" in done.out
    assert "/ip4/5.6.7.8/tcp/9000" in done.out
    assert "no answer within 12 s" in done.out
    assert node.payloads_of(PATH) == [{}]


def test_a_node_that_is_reached_ends_with_0(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[PATH] = lambda _payload: {
        "ok": True,
        "summary": "others can reach this node",
        "status": "public",
        "findings": [{"level": "ok", "about": "reach", "text": "2 peers dialled this node and reached it"}],
    }
    done = nunet("doctor", "network", "--quick", "-o", "json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["status"] == "public"
    assert node.payloads_of(PATH) == [{"quick": True}]


def test_without_a_reason_the_node_is_blamed(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[PATH] = lambda _payload: {"ok": False, "error": "not now"}
    done = nunet("doctor", "network")
    assert done.code != 0
    assert "not now" in done.err
