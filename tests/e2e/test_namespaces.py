"""Two machines, that is, two network namespaces: their nodes meet through a bootstrap address and deploy across."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from dms.devnet import prepare, processes
from dms.devnet.plan import NodePlan
from dms.testing.commandline import Done
from dms.testing.localnet import nunet_command, programs_in, run_node
from dms.testing.looking import WAIT_S
from dms.testing.netns import Namespace, namespaces

pytestmark = [pytest.mark.e2e, pytest.mark.netns]

EXAMPLE = Path(__file__).parents[2] / "examples" / "wordcount.yaml"
P2P_PORT, REST_PORT = 9000, 9999


class Machine:
    """A node in a namespace of its own, and a terminal there."""

    def __init__(self, namespace: Namespace, plan: NodePlan, user_dir: Path, passphrase: str) -> None:
        self.namespace, self.plan = namespace, plan
        self._user_dir = user_dir
        self._env = {"DMS_PASSPHRASE": passphrase}

    def configure(self, *bootstrap: str) -> None:
        settings: dict[str, Any] = {  # JSON
            "general": {"env": "test", "user_dir": str(self.plan.user_dir), "work_dir": str(self.plan.work_dir)},
            "rest": {"port": self.plan.rest_port},
            "p2p": {
                "listen_address": [f"/ip4/{self.namespace.address}/tcp/{self.plan.p2p_port}"],
                "bootstrap_peers": list(bootstrap),
            },
        }
        self.plan.config_file.write_text(json.dumps(settings))

    def run(self, stack: ExitStack) -> None:
        prefix = self.namespace.command([])
        stack.enter_context(run_node(self.plan.directory, self.plan.rest_port, env=self._env, prefix=prefix))

    def nunet(self, *args: object) -> Done:
        command = nunet_command("--config", self.plan.config_file, "--user-dir", self._user_dir, *args)
        done = subprocess.run(
            ["env", *(f"{k}={v}" for k, v in self._env.items()), *self.namespace.command(command)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S * 2,
            check=False,
        )
        return Done(done.returncode, done.stdout.strip(), done.stderr)

    def json(self, *args: object) -> Any:  # JSON
        done = self.nunet(*args)
        assert done.code == 0, done
        return json.loads(done.out)

    def await_answer(self) -> None:
        while self.nunet("actor", "cmd", "/public/hello").code != 0:
            assert processes.nodes_in(self.plan.directory), processes.last_words(self.plan.directory / "output.log")


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    processes.stop_all(programs_in(tmp_path))


def test_two_machines_meet_through_a_bootstrap_address_and_deploy_across(directory: Path) -> None:
    passphrase = "sesame"
    user = prepare.make_user(directory / "user", passphrase)
    plans = [
        NodePlan(name, directory / name, P2P_PORT, REST_PORT, is_provider=name == "one") for name in ("one", "two")
    ]
    identities = [prepare.make_node(plan, user, passphrase) for plan in plans]
    trio.run(prepare.onboard, plans[0], 1)
    with ExitStack() as stack:
        found = stack.enter_context(namespaces(2))
        one, two = (Machine(*pair, directory / "user", passphrase) for pair in zip(found, plans, strict=True))
        one.configure()
        two.configure(f"/ip4/{one.namespace.address}/tcp/{P2P_PORT}/p2p/{identities[0].peer_id}")
        one.run(stack)
        two.run(stack)
        one.await_answer()
        two.await_answer()
        while identities[0].peer_id not in two.json("actor", "cmd", "/dms/node/peers/list")["Peers"]:
            pass

        done = two.nunet("deploy", "-f", EXAMPLE, "--timeout", "1m", "--progress")
        assert done.code == 0, done
        assert f"chose …{identities[0].peer_id[-8:]} for left" in done.out
        identifier = done.out.splitlines()[0].removeprefix("Deployment ")
        assert two.json("status", identifier, "-o", "json")["status"] == "Running"
        hosted = one.json("get", "allocations", "-o", "json")["allocations"]
        assert len(hosted) == 3
        assert two.nunet("shutdown", identifier).out == "Completed"
        assert "different words" in two.nunet("logs", identifier, "wordcount").out
        free = one.json("get", "resources", "-o", "json")
        assert free["free"] == free["onboarded"]
    assert programs_in(directory) == []
