"""A small internet on one machine, for tests with everything real: hosts in network namespaces, each with a node in a
process of its own and a Docker engine of its own, routers with address translation, and a relay.

::

      relay   public   (outsider)          the internet, 45.77.0.0/16
        ├───────┴─────────┴────┬──────────────┐
                            router ─ ✗ ─── router
                              │               │
                            left            right      192.168.1.2 behind each, and nobody is let in

``relay`` forwards connections and is where deployments are made; all four offer a part of the machine. The two routers do not
reach each other until ``routers["left"].unblock()``. Needs root,
``iproute2``, ``nftables`` and ``docker.io``; everything is gone when the context ends, whatever happened inside.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import psutil
import trio

from dms.capability.context import CapabilityContext
from dms.capability.store import context_path, load_context
from dms.cli.client import Client
from dms.cli.rest import Rest
from dms.devnet import prepare, processes
from dms.devnet.plan import NodePlan
from dms.executor.docker.api import DockerApi
from dms.identity.keystore import Keystore
from dms.identity.trust import Provider, TrustContext
from dms.subnet.namespaces import run_inside
from dms.testing.commandline import Done
from dms.testing.dockerd import TestEngine, busybox_image, docker_engine_inside
from dms.testing.localnet import nunet_command
from dms.testing.looking import WAIT_S, look_until
from dms.testing.netns import Namespace, behind_router, namespaces
from dms.types.ids import PeerID

INTERNET = "45.77"
"""Addresses that count as public; they are those of the namespaces only."""
NAMES = ("relay", "public", "left", "right")
IMAGE = "dms-test/busybox:1"
P2P_PORT, REST_PORT = 9000, 9999
RELAY_LIMIT_S = 8
"""How long a relayed connection lasts; with the next one the two at its ends try to do without."""

_COUNTED = re.compile(r"counter packets \d+ bytes \d+| \[\d+:\d+\]$")

T = TypeVar("T")


@dataclass
class Host:
    """A machine: its network, its engine, its node, and a terminal there."""

    name: str
    namespace: Namespace
    engine: TestEngine
    plan: NodePlan
    peer: PeerID
    _user_dir: Path
    _passphrase: str
    _node: subprocess.Popen[bytes] | None = None

    # the node --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the node; :meth:`await_started` returns when it runs."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("DMS_")}
        with self.plan.output_file.open("wb") as output:
            self._node = subprocess.Popen(
                self.namespace.command(nunet_command("--config", self.plan.config_file, "run")),
                env=inherited | {"DMS_PASSPHRASE": self._passphrase, "DOCKER_HOST": self.engine.host},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.plan.directory,
                start_new_session=True,
            )

    def await_started(self) -> None:
        """Return when the node runs.

        :raises AssertionError: it ended, with what it said.
        """

        def has_started() -> bool:
            assert self._node is not None
            assert self._node.poll() is None, processes.last_words(self.plan.output_file)
            said = self.plan.output_file.read_text("utf-8", "replace")
            return "] started " in said.replace("INFO     ", "INFO")

        look_until(has_started, lambda: processes.last_words(self.plan.output_file))

    def kill(self) -> None:
        """End the node as ``kill -9`` does; its containers live on."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the node in order."""
        self._end(signal.SIGTERM)

    def terminate(self) -> None:
        """Ask it to end."""
        if self._node is not None and self._node.poll() is None:
            self._node.terminate()

    def _end(self, number: signal.Signals) -> None:
        if self._node is None or self._node.poll() is not None:
            return
        self._node.send_signal(number)
        try:
            self._node.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self._node.kill()
            self._node.wait()

    def ask(self, question: Callable[[Client], T]) -> T:
        """Something of the node, for the person whom all nodes obey."""
        client = Client(Rest("127.0.0.1", REST_PORT), lambda: self._context)
        return run_inside(self.namespace.path, lambda: question(client))

    @cached_property
    def _context(self) -> CapabilityContext:
        key = Keystore(self._user_dir / "key").get(prepare.USER_CONTEXT, self._passphrase)
        path = context_path(self._user_dir / "cap", prepare.USER_CONTEXT)
        return load_context(path, TrustContext(Provider.of_key(key)))

    def nunet(self, *args: object) -> Done:
        """A command line, on this machine."""
        command = nunet_command("--config", self.plan.config_file, "--user-dir", self._user_dir, *args)
        done = subprocess.run(
            self.namespace.command(command),
            env=os.environ | {"DMS_PASSPHRASE": self._passphrase},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S * 2,
            check=False,
        )
        return Done(done.returncode, done.stdout.strip(), done.stderr)

    # the engine ------------------------------------------------------------------------------------------------------

    def docker(self, *args: str) -> str:
        """What the engine's own command line says; its errors, too."""
        done = subprocess.run(
            ["docker", "-H", self.engine.host, *args], capture_output=True, text=True, timeout=WAIT_S, check=False
        )
        return done.stdout + done.stderr

    def container(self, ensemble: str, key: str) -> str:
        """The container that runs an allocation, by its ``<node>.<allocation>``; empty where there is none."""
        told = self.docker("ps", "--format", '{{.ID}} {{.Label "nunet-executionID"}}')
        found = [line.split()[0] for line in told.splitlines() if f"{ensemble}_{key}-" in line]
        return found[0] if found else ""

    def namespace_of(self, container: str) -> Path:
        """The network namespace of a container."""
        return Path(f"/proc/{self.docker('inspect', '-f', '{{.State.Pid}}', container).strip()}/ns/net")

    # what is there ---------------------------------------------------------------------------------------------------

    def traces(self) -> dict[str, list[str]]:
        """All that work on this machine could leave behind, but for its files."""
        found: dict[str, list[str]] = {}
        for what in ("link", "addr", "route", "rule"):
            shown = json.loads(self._inside("ip", "-j", what, "show"))
            found[what] = sorted(json.dumps(_lasting(one), sort_keys=True) for one in shown)
        for command in (("iptables-save",), ("ip6tables-save",), ("nft", "list", "ruleset")):
            lines = self._inside(*command).splitlines()
            found[command[0]] = [_COUNTED.sub("", line) for line in lines if line[:1] != "#"]
        found["containers"] = sorted(self.docker("ps", "--all", "--format", "{{.Names}}").split())
        found["networks"] = sorted(self.docker("network", "ls", "--format", "{{.Name}}").split())
        held = (self.engine.directory / "exec/netns").glob("*")  # what is no mount the engine deletes once in a minute
        found["namespaces"] = sorted(path.name for path in held if path.stat().st_dev != path.parent.stat().st_dev)
        found["processes"] = [f"{count} {name}" for name, count in sorted(self._programs().items())]
        return found

    def _programs(self) -> Counter[str]:
        """What runs in the namespace of the machine: the node, the engine, and what it keeps beside each container."""
        own, found = self.namespace.path.stat().st_ino, Counter[str]()
        for process in psutil.process_iter(["name"]):
            try:
                if Path(f"/proc/{process.pid}/ns/net").stat().st_ino == own:
                    found[process.info["name"]] += 1
            except OSError:
                continue
        return found

    def _inside(self, *command: str) -> str:
        return subprocess.run(self.namespace.command(command), check=True, capture_output=True, text=True).stdout


@dataclass
class Lab:
    """All of it."""

    hosts: Mapping[str, Host]
    routers: Mapping[str, Namespace]
    """By the host behind each."""
    outsider: Namespace
    """A machine on the internet without a node."""

    def end(self) -> None:
        """Ask all nodes to end; :meth:`Host.stop` waits for each."""
        for host in self.hosts.values():
            host.terminate()

    def words(self) -> str:
        """The last ones of each node."""
        return "\n".join(f"{h.name}: {processes.last_words(h.plan.output_file)}" for h in self.hosts.values())

    @property
    def orchestrator(self) -> Host:
        """Where deployments are made."""
        return self.hosts["relay"]

    def await_connected(self, *names: str) -> None:
        """Return when these hosts, or all, are connected to the relay.

        :raises AssertionError: they are not after a minute.
        """
        wanted = {self.hosts[name].peer for name in names or NAMES[1:]}
        look_until(lambda: wanted <= self.peers(), lambda: "not connected to the relay")

    def peers(self) -> set[str]:
        """To whom the relay is connected."""
        return set(self.orchestrator.ask(lambda client: client.call("/dms/node/peers/list", None, dict))["Peers"])


@contextmanager
def lab(directory: Path) -> Iterator[Lab]:
    """Everything started, and all nodes connected to the relay.

    :raises subprocess.CalledProcessError: no root, or a program is missing.
    """
    user_dir, passphrase = directory / "user", "sesame"
    user = prepare.make_user(user_dir, passphrase)
    with ExitStack() as stack:
        relay, public, outsider, *routers = stack.enter_context(namespaces(5, network=INTERNET))
        left = stack.enter_context(behind_router(routers[0]))
        right = stack.enter_context(behind_router(routers[1]))
        routers[0].block(routers[1].address)
        hosts: dict[str, Host] = {}
        for name, place in zip(NAMES, (relay, public, left, right), strict=True):
            plan = NodePlan(name, directory / name, P2P_PORT, REST_PORT, is_provider=True)
            identity = prepare.make_node(plan, user, passphrase)
            engine = stack.enter_context(docker_engine_inside(place.name))
            hosts[name] = Host(name, place, engine, plan, identity.peer_id, user_dir, passphrase)
            trio.run(prepare.onboard, plan, len(NAMES))
            at_relay = f"/ip4/{relay.address}/tcp/{P2P_PORT}/p2p/{hosts['relay'].peer}"
            _configure(plan, () if name == "relay" else (at_relay,))
        trio.run(_start_engines, [host.engine for host in hosts.values()])
        made = Lab(hosts, dict(zip(("left", "right"), routers, strict=True)), outsider)
        for host in hosts.values():
            stack.callback(host.stop)
            host.start()
        stack.callback(made.end)
        for host in hosts.values():
            host.await_started()
        made.await_connected()
        yield made


async def _start_engines(engines: list[TestEngine]) -> None:
    async with trio.open_nursery() as nursery:
        for engine in engines:
            nursery.start_soon(_start_engine, engine)


async def _start_engine(engine: TestEngine) -> None:
    await trio.to_thread.run_sync(engine.start)
    api = DockerApi(engine.host)
    await api.negotiate()
    await api.import_image(IMAGE, busybox_image())


def _configure(plan: NodePlan, bootstrap: tuple[str, ...]) -> None:
    settings = {
        "general": {
            "env": "test",
            "user_dir": str(plan.user_dir),
            "work_dir": str(plan.work_dir),
            "data_dir": str(plan.work_dir / "data"),
        },
        "rest": {"port": plan.rest_port},
        "p2p": {
            "listen_address": [f"/ip4/0.0.0.0/tcp/{plan.p2p_port}"],
            "bootstrap_peers": list(bootstrap),
            "mdns": False,
            "port_mapping": False,
            "relay_delay": "500ms",
            "relay_service": "off" if bootstrap else "on",
            "relay_limit_s": RELAY_LIMIT_S,
        },
        "observability": {"logging": {"file": str(plan.work_dir / "logs" / "nunet-dms-logs.jsonl")}},
    }
    plan.config_file.write_text(json.dumps(settings))


def _lasting(shown: Mapping[str, object]) -> dict[str, object]:
    """Of what ``ip`` shows, what does not change by itself."""
    passing = {"ifindex", "link_index", "link_netnsid", "valid_life_time", "preferred_life_time", "operstate", "flags"}
    kept = {key: value for key, value in shown.items() if key not in passing}
    if isinstance(infos := kept.get("addr_info"), list):
        kept["addr_info"] = [_lasting(one) for one in infos]
    return kept
