"""Files from one node to another, real processes: a whole one, and one whose receiver and sender are killed on the way."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from dms.testing.commandline import Nunet
from dms.testing.localnet import LocalNet
from dms.testing.looking import look_until

SENDER, RECEIVER = "node3", "node1"
MIB = 1 << 20
WAIT_S = 60.0


def volume(net: LocalNet, name: str, label: str) -> Path:
    """Where a named volume of the network's person lies."""
    reply = net.client(name).call("/dms/volume/list", None, dict)
    (id_,) = (one["id"] for one in reply["volumes"] if one["name"] == label)
    (path,) = Path(net.node(name).config).parent.rglob(id_)
    return path


@pytest.mark.long("tests/network/test_passing_files.py")
def test_a_file_goes_to_another_node_whoever_is_killed_on_the_way(net: LocalNet, nunet: Nunet) -> None:
    content = random.Random(5).randbytes(48 * MIB)
    peer = net.node(RECEIVER).peer_id
    assert nunet("volume", "create", "outgoing").code == 0
    (volume(net, SENDER, "outgoing") / "big.bin").write_bytes(content)

    done = nunet("file", "send", "outgoing/big.bin", "--to", peer, "--as", "incoming/one.bin")
    assert (done.code, done.out) == (0, "incoming/one.bin is there: 48.0 MiB\n"), done
    assert (volume(net, RECEIVER, "incoming") / "one.bin").read_bytes() == content

    for victim in (RECEIVER, SENDER):
        name = f"incoming/after-{victim}.bin"
        begun = json.loads(
            nunet("file", "send", "outgoing/big.bin", "--to", peer, "--as", name, "--no-wait", "-o", "json").out
        )
        assert begun["received"] == 0
        await_progress(nunet, begun["id"])
        net.end(victim)
        net.start(victim)
        net.await_connected()
        again = nunet("file", "send", "outgoing/big.bin", "--to", peer, "--as", name)
        assert again.code == 0, again
        assert (volume(net, RECEIVER, "incoming") / name.partition("/")[2]).read_bytes() == content


def await_progress(nunet: Nunet, id_: str) -> None:
    """Until some of a file was sent."""

    def is_under_way() -> bool:
        told = json.loads(nunet("file", "list", "-o", "json").out)["transfers"]
        (one,) = (one for one in told if one["id"] == id_)
        return bool(one["done"] > MIB)

    look_until(is_under_way, lambda: "nothing was sent", every_s=0.02)
