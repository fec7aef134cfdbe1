"""Which addresses mean the same everywhere."""

from __future__ import annotations

import ipaddress

import pytest

from dms.network.reachability import is_public_ip


@pytest.mark.parametrize("text", ["8.8.8.8", "1.2.3.4", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public(text: str) -> None:
    assert is_public_ip(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *("10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.1.1", "172.16.0.1", "192.168.0.1", "192.0.2.1", "198.18.0.1"),
        *(
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "0.0.0.0",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "ff02::1",
        ),
        *("2001:db8::1", "::ffff:10.0.0.1"),
    ],
)
def test_not_public(text: str) -> None:
    assert not is_public_ip(ipaddress.ip_address(text))
