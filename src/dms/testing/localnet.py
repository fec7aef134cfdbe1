"""A local network of real processes for tests: addressed, watched, and its nodes crashed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from dms.capability.store import context_path, load_context
from dms.cli.client import Client
from dms.cli.following import Deployment
from dms.cli.networks import FILE_VARIABLE
from dms.cli.rest import Rest
from dms.cli.story import Story
from dms.devnet import network, processes
from dms.devnet.plan import NodePlan
from dms.devnet.profile import PROFILE_FILE, NetworkProfile, NodeProfile, read_profile
from dms.identity.keystore import Keystore
from dms.identity.trust import Provider, TrustContext
from dms.node.machine_payloads import ResourcesReply
from dms.testing.commandline import Done
from dms.testing.looking import WAIT_S, look_until
from dms.types.resources import Resources


@dataclass(frozen=True, slots=True)
class LocalNet:
    """A network that was started by ``nunet devnet up``."""

    directory: Path
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def profile(self) -> NetworkProfile:
        """As it stands in the file."""
        return read_profile(self.directory / PROFILE_FILE)

    @property
    def environment(self) -> dict[str, str]:
        """What makes every command address this network."""
        return {"DMS_NETWORK": "devnet", FILE_VARIABLE: str(self.directory / PROFILE_FILE)}

    def node(self, name: str = "") -> NodeProfile:
        """A node by name; without one, that which commands address."""
        return self.profile.node(name or None)

    def client(self, name: str = "") -> Client:
        """What acts for the network's person at a node."""
        profile, node = self.profile, self.node(name)
        user_dir, context = Path(profile.user_dir), profile.user_context
        key = Keystore(user_dir / "key").get(context, profile.passphrase())
        loaded = load_context(context_path(user_dir / "cap", context), TrustContext(Provider.of_key(key)))
        return Client(Rest(node.rest_addr, node.rest_port), lambda: loaded)

    def deployment(self, identifier: str) -> Deployment:
        """A deployment of the node that commands address."""
        return Deployment(self.client(), identifier)

    def free(self, name: str) -> Resources:
        """What a node has left of what it offers."""
        return self.client(name).call("/dms/node/resources/free", None, ResourcesReply).resources

    def await_event(self, identifier: str, *texts: str) -> str:
        """Follow a deployment until each of these texts was told, as ``nunet events`` would; everything told so far.

        :raises AssertionError: it has ended, and one was not.
        """
        story, told = Story(lambda peer: peer), ""
        for progress in self.deployment(identifier).follow():
            told += "".join(f"{story.text(event)}\n" for event in progress.events)
            if all(text in told for text in texts):
                return told
        raise AssertionError(f"not among what happened: {[text for text in texts if text not in told]}\n{told}")

    # processes -----------------------------------------------------------------------------------------------------

    def process(self, name: str) -> psutil.Process:
        """The process of a node."""
        return processes.nodes_in(self.directory)[Path(self.node(name).config)]

    def end(self, name: str, number: signal.Signals = signal.SIGKILL) -> int | None:
        """Send a node a signal and wait until it is gone; its exit code, where it was started with :meth:`start`."""
        process = self.process(name)
        process.send_signal(number)
        code: int | None = process.wait(WAIT_S)
        return code

    def start(self, name: str) -> None:
        """Start a node again, with its configuration."""
        self.start_through(name)

    def start_through(self, name: str, *command: str) -> None:
        """The same, by another program that becomes it."""
        node = self.node(name)
        plan = NodePlan(node.name, Path(node.config).parent, 0, node.rest_port, node.is_provider)
        self._started.append(processes.start(plan, self.profile.passphrase(), through=command))

    def is_running(self, name: str) -> bool:
        """Whether there is a process of a node."""
        return Path(self.node(name).config) in processes.nodes_in(self.directory)

    @contextmanager
    def suspended(self, *names: str) -> Iterator[None]:
        """Nodes that do nothing for a while, as on a machine that stands still."""
        stopped = [self.process(name) for name in names]
        for process in stopped:
            process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                process.resume()

    def programs(self, name: str) -> list[psutil.Process]:
        """What runs for others on a node."""
        return programs_in(Path(self.node(name).config).parent / "work")

    def mend(self) -> None:
        """Start whatever does not run, and wait until all are connected."""
        for node in self.profile.nodes:
            if not self.is_running(node.name):
                self.start(node.name)
        self.await_connected()

    def reap(self) -> None:
        """Wait for what was started here, once the network is down."""
        for process in self._started:
            process.wait(WAIT_S)

    def await_connected(self) -> None:
        """Return when every node answers and is connected to all others.

        :raises AssertionError: they are not after a minute.
        """

        def are_connected() -> bool:
            return all(node.peers >= len(self.profile.nodes) - 1 for node in network.status(self.directory))

        look_until(are_connected, lambda: f"not connected: {network.status(self.directory)}")


def run_nunet(*args: object, env: Mapping[str, str] | None = None, timeout_s: float = WAIT_S) -> Done:
    """Run ``nunet`` as a process of its own, with nothing to read."""
    done = subprocess.run(
        nunet_command(*args),
        env=os.environ | dict(env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def start_nunet(*args: object, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Start ``nunet``, with pipes for what it writes; it is ended with the context."""
    with subprocess.Popen(
        nunet_command(*args),
        env=os.environ | dict(env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@contextmanager
def run_node(
    directory: Path, rest_port: int, *, env: Mapping[str, str], prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """``nunet run`` in ``directory`` with the configuration there, from when it answers until the context ends.

    ``prefix`` is what stands before the command, such as that which puts it into a network namespace; then the node is
    not asked whether it answers.

    :raises AssertionError: it ended, with what it said.
    """
    output = directory / "output.log"
    with output.open("wb") as file:
        node = subprocess.Popen(
            [*prefix, *nunet_command("--config", directory / "dms_config.json", "run")],
            env=os.environ | dict(env),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=directory,
            start_new_session=True,
        )

    def answers() -> bool:
        assert node.poll() is None, processes.last_words(output)
        return processes.read_health(rest_port) is not None

    with node:
        try:
            if not prefix:
                look_until(answers, lambda: processes.last_words(output))
            yield node
        finally:
            node.terminate()
            try:
                node.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                node.kill()


def programs_in(directory: Path) -> list[psutil.Process]:
    """Every process whose command line names something in ``directory``: nodes, and what they run."""

    def words(process: psutil.Process) -> list[str]:
        try:
            return process.cmdline()
        except psutil.Error:
            return []

    return [p for p in psutil.process_iter() if any(f"{directory}/" in word for word in words(p))]


def nunet_command(*args: object) -> list[str]:
    """The command line of ``nunet``."""
    return [sys.executable, "-m", processes.MODULE, *(str(arg) for arg in args)]
