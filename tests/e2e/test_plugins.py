"""The example plugin, built, installed and used by nodes that are processes of their own, beside plugins that are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dms.devnet import processes
from dms.testing.commandline import Done
from dms.testing.localnet import LocalNet, run_nunet

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("plugins")]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "plugin"
BROKEN = """
import trio
async def opens_and_dies(place):
    async def die():
        raise RuntimeError("planted in the background")
    place.nursery.start_soon(die)
    return object()
async def does_not_open(place):
    raise ValueError("planted while opening")
def makes_nothing():
    raise ValueError("planted while making")
async def listens(events):
    raise ValueError("planted while listening")
"""
ENTRY_POINTS = """
[dms.executors]
broken.dies = nunet_broken:opens_and_dies
broken.opens = nunet_broken:does_not_open
broken.import = nunet_nowhere:anything
[dms.storage]
broken.storage = nunet_broken:makes_nothing
[dms.hardware]
broken = nunet_broken:makes_nothing
[dms.events]
broken = nunet_broken:listens
"""


@dataclass(frozen=True)
class Plugged:
    """A network whose nodes have plugins."""

    net: LocalNet
    environment: dict[str, str]
    diary: Path

    def nunet(self, *args: object) -> Done:
        """A command."""
        return run_nunet(*args, env=self.net.environment | self.environment)

    def logs(self) -> str:
        """What the nodes said."""
        return "".join(path.read_text() for path in self.net.directory.rglob("*.log"))


@pytest.fixture(scope="module")
def plugged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugged]:
    base = tmp_path_factory.mktemp("plugins")
    site = base / "site"
    install = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*install, "--python", sys.executable, "--target", site, EXAMPLE], check=True)
    metadata = site / "nunet_broken-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: nunet-broken\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "nunet_broken.py").write_text(BROKEN)
    cards, diary = base / "cards.json", base / "diary"
    cards.write_text(json.dumps([{"model": "Pretended 9", "uuid": "card-1", "vram_bytes": 8 << 30}]))
    environment = {
        "PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "NUNET_EXAMPLE_CARDS": str(cards),
        "NUNET_EXAMPLE_DIARY": str(diary),
    }
    net = LocalNet(base / "net")
    done = run_nunet("devnet", "up", "-n", 2, "--dir", net.directory, env=dict(os.environ) | environment)
    try:
        assert done.code == 0, done
        yield Plugged(net, environment, diary)
    finally:
        done = run_nunet("devnet", "down", "--dir", net.directory)
        net.reap()
    assert done.code == 0, done


def test_what_is_installed_is_listed_with_what_is_wrong_with_it(plugged: Plugged) -> None:
    done = plugged.nunet("plugin", "list", "--output", "json")
    found = {f"{each['group']}/{each['name']}": each["problem"] for each in json.loads(done.out)["plugins"]}
    assert done.code == 1
    assert found["dms.executors/example.echo"] == found["dms.events/example"] == ""
    assert "nunet_nowhere" in found["dms.executors/broken.import"]
    assert [name for name, problem in found.items() if problem] == ["dms.executors/broken.import"]


def test_an_ensemble_runs_on_the_executor_and_the_storage_of_a_plugin(plugged: Plugged) -> None:
    done = plugged.nunet("deploy", "-f", EXAMPLE / "echo.yaml", "--until", "ended", "--id-only")
    assert done.code == 0, done
    logs = plugged.nunet("logs", done.out.strip())
    assert "from a plugin" in logs.out
    assert "/greeting/text" in logs.out


def test_graphics_processors_of_a_plugin_are_offered(plugged: Plugged) -> None:
    done = plugged.nunet("actor", "cmd", "--context", "user", "/dms/node/hardware/spec")
    assert "Pretended 9" in done.out, done


def test_a_listener_hears_the_events_of_the_node(plugged: Plugged) -> None:
    assert plugged.diary.read_text().splitlines()


def test_what_is_broken_is_named_and_does_no_harm(plugged: Plugged) -> None:
    health = json.dumps(processes.read_health(plugged.net.node().rest_port))
    assert "plugin_fails" in health
    assert "dms.executors/broken.dies: RuntimeError: planted in the background" in health
    logs = plugged.logs()
    for planted in ("in the background", "while opening", "while making", "while listening"):
        assert f"planted {planted}" in logs
