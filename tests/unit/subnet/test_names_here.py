"""Names of private networks on the machine itself."""

from __future__ import annotations

from ipaddress import IPv4Address

from dms.subnet.names_here import commands


def test_the_server_is_asked_for_names_of_private_networks_and_nothing_else() -> None:
    told = [command[1:] for command in commands("/usr/bin/resolvectl", "dms-0", IPv4Address("10.1.2.1"))]
    assert told == [["dns", "dms-0", "10.1.2.1"], ["domain", "dms-0", "~internal"], ["default-route", "dms-0", "false"]]
