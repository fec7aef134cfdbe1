"""TAP devices: made, listed and removed in a network of their own; refused clearly where that cannot be."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dms.executor import tap
from dms.testing.netns import Namespace, namespaces
from dms.types.errors import BadInput


def nunet(place: Namespace, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = place.command([sys.executable, "-m", "dms.cli.main", "tap", *arguments])
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.netns
def test_a_device_is_made_listed_and_removed() -> None:
    with namespaces(1) as (place,):
        made = nunet(place, "create", "vm0", "10.20.0.1/24")
        assert (made.returncode, made.stdout) == (0, "vm0 has the address 10.20.0.1/24\n"), made.stderr
        again = nunet(place, "create", "vm0", "10.20.0.1/24")
        assert (again.returncode, "there is a network device vm0 already" in again.stderr) == (5, True)
        listed = nunet(place, "list", "--output", "json")
        assert '"name": "vm0"' in listed.stdout
        assert '"address": "10.20.0.1/24"' in listed.stdout
        assert nunet(place, "remove", "vm0").returncode == 0
        gone = nunet(place, "remove", "vm0")
        assert (gone.returncode, "there is no TAP device vm0" in gone.stderr) == (4, True)


@pytest.mark.netns
def test_packets_are_passed_on_only_where_that_is_allowed() -> None:
    with namespaces(1) as (place,):
        missing = nunet(place, "nowhere0", "vm0", "10.20.0.1/24")
        assert (missing.returncode, "there is no network device nowhere0" in missing.stderr) == (4, True)
        subprocess.run(place.command(["sysctl", "-qw", "net.ipv4.ip_forward=0"]), check=True)
        refused = nunet(place, "eth0", "vm0", "10.20.0.1/24")
        assert (refused.returncode, "does not pass packets on" in refused.stderr) == (1, True)
        subprocess.run(place.command(["sysctl", "-qw", "net.ipv4.ip_forward=1"]), check=True)
        made = nunet(place, "eth0", "vm0", "10.20.0.1/24")
        assert made.returncode == 0, made.stderr
        rules = subprocess.run(place.command(["iptables", "-S", "FORWARD"]), capture_output=True, text=True, check=True)
        assert "-A FORWARD -i vm0 -o eth0 -j ACCEPT" in rules.stdout
        assert nunet(place, "remove", "vm0", "--main", "eth0").returncode == 0
        rules = subprocess.run(place.command(["iptables", "-S", "FORWARD"]), capture_output=True, text=True, check=True)
        assert "vm0" not in rules.stdout


@pytest.mark.parametrize(
    ("name", "cidr", "reason"),
    [
        ("x" * 16, "10.0.0.1/24", "not the name"),
        ("a/b", "10.0.0.1/24", "not the name"),
        ("..", "10.0.0.1/24", "not the name"),
        ("vm0", "10.0.0.1", "leaves no address"),
        ("vm0", "10.0.0.1/31", "leaves no address"),
        ("vm0", "host/24", "not an address"),
    ],
)
def test_what_cannot_be_a_device_is_refused(name: str, cidr: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        tap.create_tap(name, cidr)


def test_who_may_not_is_told_what_it_takes() -> None:
    script = "from dms.executor import tap; tap.create_tap('dmsnone0', '10.20.0.1/24')"
    code = f"import os\nif os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n{script}"
    # imported before the rights are given up: the interpreter may lie where nobody else reads
    code = f"import dms.executor.tap, dms.types.errors, ipaddress\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "TapRefused" in done.stderr
