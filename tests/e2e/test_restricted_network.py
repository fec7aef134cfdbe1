"""The page on networks for members only, walked through: three organisations, three nodes, one expulsion."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dms.devnet import processes
from dms.devnet.plan import free_ports
from dms.identity.ids import did_of
from dms.identity.keys import generate_key
from dms.identity.keystore import Keystore
from dms.testing.commandline import Done, Nunet
from dms.testing.localnet import programs_in, run_node
from dms.testing.shell import shell, steps_of

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("other networks")]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "restricted-network.md"
PLACES = ("consortium", "north", "south")
PATIENCE_S = 30.0
"""Until nodes that just started have found each other."""


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[dict[str, int]]:
    """The REST port of each place: a directory with a configuration."""
    free = free_ports(6)
    chosen = dict(zip(PLACES, free[3:], strict=True))
    for name, p2p in zip(PLACES, free[:3], strict=True):
        place = tmp_path / name
        place.mkdir()
        settings = {
            # env: other tests keep the processors busy, which would stand against onboarding
            "general": {"env": "test", "user_dir": str(place / "user"), "work_dir": str(place / "work")},
            "rest": {"port": chosen[name]},
            "p2p": {"listen_address": [f"/ip4/127.0.0.1/tcp/{p2p}"], "bootstrap_peers": []},
        }
        (place / "dms_config.json").write_text(json.dumps(settings))
    yield chosen
    processes.stop_all(programs_in(tmp_path))


@pytest.mark.long("tests/network/test_reach.py")
def test_the_page_on_restricted_networks(
    tmp_path: Path, ports: dict[str, int], nunet: Nunet, monkeypatch: pytest.MonkeyPatch
) -> None:
    passphrase = secrets.token_hex()
    monkeypatch.setenv("DMS_PASSPHRASE", passphrase)
    shutil.copytree(ROOT / "examples", tmp_path / "north/examples")

    def run(place: Path, words: list[str]) -> Done:
        monkeypatch.chdir(place)
        if words[:2] == ["key", "new"]:  # cheap to open: there are many commands to come
            key = generate_key()
            Keystore(place / "user/key", scrypt_n=2).save(words[2], key, passphrase)
            return Done(0, f"{did_of(key.public)}\n", "")
        if words[0] == "onboard":  # the benchmark keeps a processor busy for seconds
            words = [*words, "--no-benchmark"]
        return nunet(*words)

    starts = iter((("consortium",), ("north", "south")))
    with ExitStack() as stack:
        terminal = stack.enter_context(shell(tmp_path, run))
        for step in steps_of(PAGE):
            if step.command == "nunet run":
                for name in next(starts):
                    environment = {"DMS_PASSPHRASE": passphrase}
                    stack.enter_context(run_node(tmp_path / name, ports[name], env=environment))
                continue
            give_up = time.monotonic() + PATIENCE_S
            done = terminal.run(step.command)
            # what takes a while to be so: all have found each other, all have confirmed
            while "broadcast" in step.command and not step.is_printed_by(done.out):
                assert time.monotonic() < give_up, done
                done = terminal.run(step.command)
            assert step.is_printed_by(done.out), (step, done)
            assert done.code == (3 if "denied" in done.out else 0), (step, done)

        # whoever was expelled is refused by the node that only heard of it, on every way, and that is on its disk
        peers = json.loads(run(tmp_path / "south", ["actor", "cmd", "-c", "org", "/dms/node/peers/self"]).out)
        hello = ["actor", "cmd", "-c", "org", "/public/hello", "-d", peers["id"]]
        done = run(tmp_path / "north", [*hello, "-t", "1s"])
        assert done.code in (3, 6), done
        done = run(tmp_path / "consortium", hello)  # with all the time that a busy machine takes
        assert done.code == 0, done
        listed = json.loads(run(tmp_path / "south", ["cap", "list", "-c", "dms", "-o", "json"]).out)
        assert len(listed["revoke"]) == 1
