"""Stands in for what the libp2p library imports but never uses here.

``fastecdsa`` serves only P-256 host keys and the ephemeral keys of secio. It has no wheels, so installing it takes a C
compiler and GMP headers on every machine. Where it is installed anyway, the real one is used.

Four modules of the library itself (certificates over ACME, mDNS, UPnP) are imported by its host and would bring an HTTP
client, a DNS client and zeroconf with them: 16 MB of a daemon's memory. None of them is ever switched on here.

Whatever touches a placeholder fails loudly instead of computing something.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

MISSING = (
    "fastecdsa",
    "fastecdsa.curve",
    "fastecdsa.keys",
    "fastecdsa.point",
    "fastecdsa.encoding",
    "fastecdsa.encoding.sec1",
    "fastecdsa.encoding.util",
)
UNUSED = (
    "libp2p.security.tls.autotls.acme",
    "libp2p.security.tls.autotls.broker",
    "libp2p.discovery.mdns.mdns",
    "libp2p.discovery.upnp.upnp",
)


def install() -> None:
    """Put the placeholders into ``sys.modules``; whatever is loaded already stays."""
    names = list(UNUSED)
    if MISSING[0] not in sys.modules and importlib.util.find_spec(MISSING[0]) is None:
        names += MISSING
    for name in names:
        if name in sys.modules:
            continue
        module = sys.modules[name] = _Placeholder(name)
        parent, _, child = name.rpartition(".")
        if parent in sys.modules:
            setattr(sys.modules[parent], child, module)


class _Placeholder(ModuleType):
    """A module whose every public name is a class that cannot be used."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "Not available here.")
        self.__spec__ = ModuleSpec(name, None)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unusable


class _UnusableType(type):
    def __getattr__(cls, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unusable


class _Unusable(metaclass=_UnusableType):
    def __init__(self, *_args: object, **_kwargs: object) -> None:
        raise RuntimeError(
            "this part of the libp2p library is not available here (see dms.network.libp2p._placeholder)"
        )
