import ipaddress

import pytest

from dms.storage.egress import OWNER, Egress, permitted
from dms.storage.errors import AddressRefused, InvalidStorageSpec

PRIVATE = (
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_closed_in_whatever_form_they_come(address: str) -> None:
    assert not Egress().permits(ipaddress.ip_address(address))
    assert OWNER.permits(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_open(address: str) -> None:
    assert Egress().permits(ipaddress.ip_address(address))


def test_networks_that_the_owner_opens_are_open_and_no_others() -> None:
    egress = Egress.of(["10.1.0.0/16", "fd00::/8"])
    for address, is_open in {
        "10.1.2.3": True,
        "::ffff:10.1.2.3": True,
        "10.2.0.1": False,
        "fd00::1": True,
        "127.0.0.1": False,
        "1.1.1.1": True,
    }.items():
        assert egress.permits(ipaddress.ip_address(address)) is is_open, address
    with pytest.raises(InvalidStorageSpec):
        Egress.of(["10.1.2.3/8"])


async def test_of_several_addresses_of_a_name_the_permitted_ones_are_used() -> None:
    async def lookup(_host: str, _port: int) -> tuple[str, ...]:
        return ("127.0.0.1", "1.1.1.1", "fe80::1%eth0")

    assert await permitted(Egress(), "mixed.example", 80, lookup) == ("1.1.1.1",)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "169.254.169.254", "::ffff:7f00:1"])
async def test_addresses_that_stand_for_themselves_are_checked_without_a_look_up(host: str) -> None:
    async def lookup(_host: str, _port: int) -> tuple[str, ...]:
        raise AssertionError("nothing to look up")

    with pytest.raises(AddressRefused):
        await permitted(Egress(), host, 80, lookup)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "localhost"])
async def test_spellings_that_only_the_system_understands_are_checked_once_it_has(host: str) -> None:
    with pytest.raises((AddressRefused, OSError)):
        await permitted(Egress(), host, 80)


@pytest.mark.parametrize("host", ["a..b", ".", "a" * 64, "\ufffd"])
async def test_what_is_no_name_is_not_resolved(host: str) -> None:
    with pytest.raises(OSError, match="no name"):
        await permitted(Egress(), host, 80)
