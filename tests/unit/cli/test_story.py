"""Events told in lines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.cli.story import _TELLERS, Story
from dms.node.payloads import DeploymentEvent

SECOND = 10**9


def tell(kind: str, **detail: object) -> str:
    story = Story(lambda peer: f"<{peer}>")
    return story.text(DeploymentEvent(seq=1, at=0, kind=kind, detail=detail))


@pytest.mark.parametrize(
    ("kind", "detail", "text"),
    [
        ("submitted", {"metadata": {}}, "submitted"),
        ("submitted", {"metadata": {"team": "blue"}}, "submitted (team=blue)"),
        ("bids_requested", {"round": 1}, "asked the network for bids"),
        ("bids_requested", {"round": 3}, "asked the network for bids, round 3"),
        (
            "bid_received",
            {"node": "n1", "peer": "p", "free_cores": 1.5, "free_ram_bytes": 2**31, "country": "CH"},
            "<p> bid for n1 (1.5 cores and 2.0 GiB free) in CH",
        ),
        ("bid_received", {"node": "n1", "peer": "p"}, "<p> bid for n1"),
        ("health_changed", {"allocation": "n.a", "health": "healthy"}, "n.a is healthy"),
        ("health_changed", {"allocation": "n.a", "health": "unhealthy", "why": "mute"}, "n.a is unhealthy: mute"),
        (
            "restarts_done",
            {"restarted": ["n.a"], "failed": {"n.b": "full"}},
            "restarted n.a; n.b could not be restarted: full",
        ),
        ("peer_lost", {"peer": "p", "why": "silent", "placing": []}, "<p> is gone: silent"),
        (
            "peer_lost",
            {"peer": "p", "why": "silent", "placing": ["n"]},
            "<p> is gone: silent; another place is sought for n",
        ),
        ("node_bids", {"node": "n", "bids": [{}], "chosen": {"n": "p"}}, "chose <p> out of 1 bid for n"),
        ("node_bids", {"node": "n", "bids": [], "chosen": {}}, "0 bids for n, none chosen"),
        ("node_measured", {"node": "n", "pairs": [{}], "chosen": {}}, "measured 1 connection for n"),
        (
            "node_measured",
            {"node": "n", "pairs": [{}, {}], "chosen": {"n": "p"}},
            "measured 2 connections for n: <p> keeps its edges",
        ),
        (
            "start_waits",
            {"allocation": "n.web", "for": "m.db", "condition": "service_healthy"},
            "n.web waits for m.db to be well",
        ),
        (
            "start_waits",
            {"allocation": "n.web", "for": "m.move", "condition": "service_completed_successfully"},
            "n.web waits for m.move to complete",
        ),
        ("node_committed", {"node": "n", "refused": {}}, "n: resources reserved"),
        ("node_allocated", {"node": "n", "refused": {"n": "off"}}, "n: not allocated: n: off"),
        ("node_started", {"node": "n", "started": ["n.a"], "failed": {}}, "started n.a"),
        ("no_private_address", {"peer": "p", "reason": "no TUN"}, "<p> has no address in the private network: no TUN"),
        (
            "no_private_address",
            {"allocation": "n.a", "peer": "p", "reason": "no TUN"},
            "n.a at <p> has no address in the private network: no TUN",
        ),
        ("left_ended", {"peer": "p", "allocations": ["n.a"]}, "<p> has ended n.a"),
        (
            "exec_started",
            {"allocation": "n.a", "program": "sh", "by": "did:key:x"},
            "sh was run in n.a by did:key:x",
        ),
        (
            "ports_forwarded",
            {"allocation": "n.a", "ports": [80, 443], "by": "did:key:x"},
            "ports of n.a are forwarded to did:key:x: 80, 443",
        ),
        ("exec_ended", {"allocation": "n.a", "exit_code": 3}, "a command in n.a ended with exit code 3"),
        ("exec_ended", {"allocation": "n.a", "why": "gone"}, "a command in n.a ended: gone"),
        ("restart_requested", {"allocations": ["n.a", "n.b"]}, "restart of n.a, n.b requested"),
        ("bid_refused", {"peer": "p", "reason": "too late"}, "refused a bid of <p>: too late"),
        (
            "bid_declined",
            {"peer": "p", "nodes": ["a", "b"], "more_nodes": 3, "rule": "free", "reason": "full"},
            "<p> does not bid for a, b and 3 more: full",
        ),
        (
            "bids_collected",
            {"round": 1, "bids": [{}, {}], "chosen": {"b": "q", "a": "p"}, "status": "Committing"},
            "chose <p> for a, <q> for b out of 2 bids → Committing",
        ),
        ("bids_collected", {"bids": [{}], "chosen": {}, "error": "n1: no bids"}, "1 bid, none chosen: n1: no bids"),
        ("commits_done", {"refused": {}}, "resources reserved"),
        ("commits_done", {"refused": {"n.b": "full", "n.a": "off"}}, "not reserved: n.a: off; n.b: full"),
        ("allocates_done", {"refused": {}, "status": "Provisioning"}, "allocations made → Provisioning"),
        ("starts_done", {"started": ["n.a", "n.b"], "failed": {}, "status": "Running"}, "started n.a, n.b → Running"),
        (
            "starts_done",
            {"started": [], "failed": {"n.a": "no image"}, "error": "n.a: no image"},
            "not started: n.a: no image",
        ),
        (
            "allocation_status",
            {"allocation": "n.a", "from": "pending", "to": "running", "reason": ""},
            "n.a is running",
        ),
        (
            "allocation_progress",
            {"allocation": "n.a", "progress": "fetching its volumes: 1.0 GiB of 4.0 GiB"},
            "n.a: fetching its volumes: 1.0 GiB of 4.0 GiB",
        ),
        (
            "allocation_ended",
            {"allocation": "n.a", "state": "completed", "exit_code": 0},
            "n.a ended: completed, exit code 0",
        ),
        ("allocation_ended", {"allocation": "n.a", "state": "failed", "why": "trap"}, "n.a ended: failed, trap"),
        ("shutdown_requested", {"status": "ShuttingDown"}, "shutdown requested → ShuttingDown"),
        ("shutdown_done", {"unreached": []}, "shut down"),
        ("given_up", {}, "given up: what drives it failed again and again"),
        ("shutdown_done", {"unreached": ["n.a"]}, "shut down, but not reached: n.a"),
        (
            "shutdown_done",
            {"unreached": [], "lost": {"n.a": "the bucket is gone"}},
            "shut down; the outputs of n.a are lost: the bucket is gone",
        ),
        ("restored", {}, "taken up again after a restart of the node"),
        ("logs_not_fetched", {"allocation": "n.a", "reason": "gone"}, "the logs of n.a could not be fetched: gone"),
        ("peer_unreachable", {"peer": "p", "reason": "no route"}, "<p> cannot be reached: no route"),
    ],
)
def test_each_kind_is_told(kind: str, detail: dict[str, object], text: str) -> None:
    assert tell(kind, **detail) == text


def test_a_kind_of_a_later_version_is_told_with_what_it_carries() -> None:
    assert tell("moon_eclipsed", b=2, a="x", status="Running") == "moon eclipsed a=x, b=2 → Running"


def test_a_known_kind_with_another_shape_is_told_too() -> None:
    assert tell("bid_received", peers=["p"]) == "bid received peers=['p']"


def test_an_event_cannot_break_its_line() -> None:
    assert tell("bid_refused", peer="p", reason="x\n\x1b[1mError: y") == "refused a bid of <p>: x  [1mError: y"


@pytest.mark.parametrize(
    ("after_s", "clock"), [(0, "0.00s"), (1.234, "1.23s"), (62.5, "1m02.5s"), (3720, "1h02m"), (-5, "0.00s")]
)
def test_lines_begin_with_the_time_since_the_first_event(after_s: float, clock: str) -> None:
    story = Story(str)
    story.line(DeploymentEvent(seq=1, at=100 * SECOND, kind="submitted", detail={}))
    at = 100 * SECOND + int(after_s * SECOND)
    line = story.line(DeploymentEvent(seq=2, at=at, kind="restored", detail={}))
    assert line == f"{clock:>8}  taken up again after a restart of the node"


def test_what_follows_from_other_events_is_left_out_and_counts_for_the_time() -> None:
    events = [DeploymentEvent(seq=n, at=n * SECOND, kind=k, detail={}) for n, k in enumerate(("begun", "restored"))]
    assert list(Story(str).lines(events)) == ["   1.00s  taken up again after a restart of the node"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["peer", "node", "reason", "round", "bids", "chosen", "refused", "failed", "started", "allocation"]
)


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(_TELLERS)), st.dictionaries(KEYS | st.sampled_from(["status", "error", "metadata"]), JSON)
)
def test_whatever_a_node_sends_is_told_in_one_printable_line(kind: str, detail: dict[str, object]) -> None:
    assert tell(kind, **detail).isprintable()
