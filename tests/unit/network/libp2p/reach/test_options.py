"""What the owner may announce."""

from __future__ import annotations

import random
from collections import Counter

import pytest

import dms.network.libp2p  # noqa: F401  first: a placeholder that the library needs
from dms.network.errors import InvalidAddress
from dms.network.libp2p.reach.options import ReachOptions
from dms.network.libp2p.reach.service import ReachService
from dms.network.reachability import Reach


def service(*announce: str) -> ReachService:
    return ReachService(ReachOptions(announce=announce), Counter(), random.Random(0))


@pytest.mark.parametrize(
    "text",
    ["/ip4/5.6.7.8/udp/9000/quic-v1", "/ip4/5.6.7.8/tcp/0", "/ip4/5.6.7.8", "/ip4/5.6.7.8/tcp/1/ws", "5.6.7.8:9000"],
)
def test_an_address_that_nobody_could_dial_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(InvalidAddress):
        service(text)


def test_an_announced_public_address_is_ours_though_nobody_saw_it() -> None:
    assert service("/dns4/example.org/tcp/9000", "/ip4/5.6.7.8/tcp/9000").public_ip() == "5.6.7.8"
    assert service("/ip4/192.168.1.7/tcp/9000").public_ip() is None


def test_a_network_that_does_not_run_knows_nothing() -> None:
    report = service().report()
    assert (report.status, report.announced) == (Reach.UNKNOWN, ())
    assert "does not run" in report.why
