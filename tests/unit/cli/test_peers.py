from __future__ import annotations

from typing import Any

import pytest

from dms.identity.ids import peer_id_of
from dms.testing.actors import key_of
from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon

NEAR, FAR, SILENT = "12D3KooWn", "12D3KooWf", "12D3KooWsilent"
REAL = peer_id_of(key_of("somebody").public)


def connection(peer: str, **more: object) -> dict[str, Any]:
    return {"id": peer, "addresses": [f"/ip4/192.0.2.1/tcp/9000/p2p/{peer}"], "transport": "tcp", **more}


def test_connections_are_told_with_all_that_matters_the_nearest_first(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers["/dms/node/peers/list"] = lambda _payload: {
        "Peers": [SILENT, FAR, NEAR],
        "Connections": [
            connection(SILENT, direction="inbound", rtt_ms=0, score=-3.456, age_s=0),
            connection(FAR, direction="outbound", rtt_ms=120.04, relayed=True, score=0, age_s=3 * 86400 + 4 * 3600),
            connection(NEAR, direction="inbound", rtt_ms=1.26, score=5, age_s=65),
        ],
    }

    heading, *rows = nunet("peers").out.splitlines()

    assert heading.split() == ["PEER", "NAME", "DIRECTION", "OVER", "RTT", "SCORE", "AGE", "ADDRESS"]
    assert [" ".join(row.split()) for row in rows] == [
        f"{NEAR} {NEAR} inbound tcp 1.3 ms 5.00 1m 05s /ip4/192.0.2.1/tcp/9000/p2p/{NEAR}",
        f"{FAR} {FAR} outbound tcp, relayed 120.0 ms 0.00 3d 4h /ip4/192.0.2.1/tcp/9000/p2p/{FAR}",
        f"{SILENT} - inbound tcp - -3.46 - /ip4/192.0.2.1/tcp/9000/p2p/{SILENT}",
    ]


def test_a_node_that_tells_only_ids_is_understood(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers["/dms/node/peers/list"] = lambda _payload: {"Peers": [NEAR], "Connections": []}

    assert nunet("peers").out.splitlines()[1].split()[0] == NEAR


def test_scores_are_told_with_what_they_come_from_the_worst_first(node: ScriptedDaemon, nunet: Nunet) -> None:
    nothing = {"IP": "", "IPColocationScore": 0, "BehaviourPenalty": 0, "BehaviourScore": 0, "Topics": {}}
    node.answers["/dms/node/peers/score"] = lambda _payload: {
        "Score": {
            NEAR: {
                **nothing,
                "Score": 5.00054,
                "AppSpecificScore": 5,
                "IP": "192.0.2.1",
                "Topics": {
                    "/nunet/hello": {"Score": 0.00027, "TimeInMesh": 61_000_000_000, "InvalidMessageDeliveries": 0},
                    "/nunet/deployment": {"Score": 0.00027, "TimeInMesh": 1, "InvalidMessageDeliveries": 0},
                },
            },
            FAR: {
                **nothing,
                "Score": -4129,
                "AppSpecificScore": 1,
                "IPColocationScore": -90,
                "BehaviourPenalty": 8,
                "BehaviourScore": -40,
                "Topics": {"/nunet/hello": {"Score": -4000, "TimeInMesh": 0, "InvalidMessageDeliveries": 2}},
            },
            SILENT: {**nothing, "Score": 0, "AppSpecificScore": 0},
        }
    }

    heading, *rows = nunet("peers", "--scores").out.splitlines()

    assert heading.split() == ["PEER", "NAME", "SCORE", "OURS", "TOPICS", "REJECTED", "BREACHES", "CROWD", "IP"]
    assert [" ".join(row.split()) for row in rows] == [
        f"{FAR} {FAR} -4129.00 1 - 2.0 (-4000) 8.0 (-40) -90 -",
        f"{SILENT} - 0.00 0 - - - - -",
        f"{NEAR} {NEAR} 5.00 5 deployment, hello - - - 192.0.2.1",
    ]
    assert '"InvalidMessageDeliveries": 2' in nunet("peers", "--scores", "--output", "json").out


def test_the_routing_table_is_told_with_what_is_kept_for_others(node: ScriptedDaemon, nunet: Nunet) -> None:
    def entry(peer: str, **more: object) -> dict[str, Any]:
        address = f"/ip4/192.0.2.1/tcp/9000/p2p/{peer}"
        return {"id": peer, "addresses": [address], "since_s": 7325, "heard_s": 12, "connected": True, **more}

    table = {
        "Peers": [entry(NEAR, bucket=4), entry(SILENT, bucket=0, connected=False, addresses=[])],
        "Serving": True,
        "Protocol": "/nunet/kad/1.0.0",
        "Records": 3,
        "Provided": 2,
        "Advertised": ["gpu"],
        "Known": 40,
    }
    node.answers["/dms/node/peers/dht"] = lambda _payload: table

    heading, first, second, _, *summary = nunet("peers", "dht").out.splitlines()

    assert heading.split() == ["PEER", "NAME", "NEAR", "CONNECTED", "KNOWN", "FOR", "HEARD", "OF", "ADDRESS"]
    assert first.split()[2:] == ["4", "yes", "2h", "02m", "12.0", "s", "ago", f"/ip4/192.0.2.1/tcp/9000/p2p/{NEAR}"]
    assert second.split()[2:4] == ["0", "no"]
    assert summary == [
        "/nunet/kad/1.0.0: this node serves it to others.",
        "Kept for others: 3 records, 2 keys with their providers.",
        "Advertised by this node: gpu.",
        "Addresses are known of 40 peers.",
    ]
    table |= {"Serving": False, "Advertised": []}
    told = nunet("peers", "dht").out
    assert "only asks" in told
    assert "Advertised by this node: nothing." in told
    assert '"Known": 40' in nunet("peers", "dht", "--output", "json").out


def test_a_peer_is_connected_to_by_its_id_or_address(node: ScriptedDaemon, nunet: Nunet) -> None:
    asked: list[object] = []

    def answer(payload: Any) -> dict[str, str]:
        asked.append(payload["Address"])
        return {"Status": "", "Error": "nobody knows it"} if len(asked) > 1 else {"Status": "CONNECTED", "Error": ""}

    node.answers["/dms/node/peers/connect"] = answer

    assert nunet("peers", "connect", f"/ip4/192.0.2.1/tcp/9000/p2p/{REAL}").out == f"connected to {REAL}\n"
    failed = nunet("peers", "connect", REAL)
    assert failed.code == 1
    assert "nobody knows it" in failed.err
    assert asked == [f"/ip4/192.0.2.1/tcp/9000/p2p/{REAL}", REAL]


@pytest.mark.parametrize("wrong", ["nonsense", "", f"/ip4/192.0.2.1/tcp/9000/p2p/{NEAR}", "/ip4/192.0.2.1/tcp/9000"])
def test_what_is_no_peer_is_bad_input_and_not_sent(node: ScriptedDaemon, nunet: Nunet, wrong: str) -> None:
    done = nunet("peers", "connect", wrong)
    assert (done.code, len(done.err.splitlines())) == (2, 2)


def test_how_near_peers_are_is_told_and_the_options_reach_the_node(node: ScriptedDaemon, nunet: Nunet) -> None:
    asked: list[Any] = []

    def answer(payload: Any) -> dict[str, Any]:
        asked.append(payload)
        place = {"vector": [1.0, 2.0, 0.0, 0.0], "height": 0.5, "error": 0.125}
        near = {"id": NEAR, "smoothed_us": 1260, "variation_us": 200, "minimum_us": 1100, "samples": 7}
        return {"peers": [near | {"estimated_us": 1500, "place": place}, {"id": SILENT}], "place": place}

    node.answers["/dms/node/peers/latency"] = answer

    told = nunet("peers", "latency", "--max-rtt", "50ms", "--connected-for", "1h", "--nearest", "3").out
    heading, first, second, _, summary = told.splitlines()

    assert asked == [{"MaxRTTMicroseconds": 50_000, "ConnectedForMS": 3_600_000, "Nearest": 3}]
    assert " ".join(heading.split()) == "PEER NAME RTT VARIES BY AT LEAST ESTIMATED MEASURED"
    assert " ".join(first.split()) == f"{NEAR} {NEAR} 1.3 ms 0.2 ms 1.1 ms 1.5 ms 7 times"
    assert " ".join(second.split()) == f"{SILENT} - - - - - -"
    assert summary == "The estimates of this node are wrong by 12% on average."
    assert '"minimum_us": 1100' in nunet("peers", "latency", "--output", "json").out
