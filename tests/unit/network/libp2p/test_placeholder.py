"""Tests of what stands in for modules that the libp2p library imports and never uses here."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dms.network.libp2p  # noqa: F401  puts the placeholders in place


def test_a_placeholder_fails_as_soon_as_it_is_used() -> None:
    from libp2p.discovery.mdns import mdns

    with pytest.raises(RuntimeError, match="not available here"):
        mdns.MDNSDiscovery(None)  # type: ignore[arg-type]


@pytest.mark.skipif(hasattr(sys.modules["fastecdsa"], "__file__"), reason="the real fastecdsa is installed")
def test_keys_of_the_missing_scheme_cannot_be_made() -> None:
    from libp2p.crypto.ecc import create_new_key_pair

    with pytest.raises(RuntimeError, match="not available here"):
        create_new_key_pair("P-256")


def test_the_seam_and_the_twin_are_imported_without_the_library() -> None:
    program = (
        "import sys, dms.network, dms.testing.network;"
        "sys.exit('libp2p' in sys.modules or 'dms.network.libp2p' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_is_never_switched_on_is_not_loaded_with_the_network() -> None:
    program = (
        "import sys, dms.network.libp2p;"
        "sys.exit(', '.join({'aioquic', 'OpenSSL', 'prometheus_client.core', 'trio_websocket',"
        " 'libp2p.bitswap', 'libp2p.kad_dht', 'libp2p.transport.websocket'} & sys.modules.keys()) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_deferred_package_gives_its_names_to_whoever_asks() -> None:
    program = (
        "import dms.network.libp2p, libp2p, libp2p.transport;"
        "from libp2p import new_host;"
        "from libp2p.transport import WebsocketTransport;"
        "assert libp2p.transport.TCP and callable(new_host) and not hasattr(libp2p, 'nonsense')"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
