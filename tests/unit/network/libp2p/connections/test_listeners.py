from __future__ import annotations

from collections import Counter

import pytest

from dms.network.libp2p.connections.listeners import Listeners
from dms.network.protocol import PeerChange, PeerEvent
from dms.types.ids import PeerID

PEER = PeerID("12D3KooWA")


def test_a_listener_that_raises_keeps_nobody_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    counters: Counter[str] = Counter()
    listeners, heard = Listeners(counters), list[PeerEvent]()

    def fail(_event: PeerEvent) -> None:
        raise ValueError

    listeners.add(fail)
    end = listeners.add(heard.append)
    listeners.tell(PeerChange.CONNECTED, PEER)
    end()
    listeners.tell(PeerChange.DISCONNECTED, PEER)

    assert heard == [PeerEvent(PeerChange.CONNECTED, PEER)]
    assert counters == {"peers connected": 1, "peers disconnected": 1}
    assert "a listener of peer events failed" in caplog.text
