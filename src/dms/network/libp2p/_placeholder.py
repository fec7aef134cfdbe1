"""Stands in for what the libp2p library imports but never uses here.

``fastecdsa`` serves only P-256 host keys and the ephemeral keys of secio. It has no wheels, so installing it takes a C
compiler and GMP headers on every machine. Where it is installed anyway, the real one is used.

Some modules of the library itself (certificates over ACME, mDNS, UPnP, QUIC, pre-shared keys, figures for Prometheus)
are imported by its host and would bring an HTTP client, a DNS client, zeroconf and more ciphers with them: 16 MB of a
daemon's memory, and time at each start. None of them is ever switched on here.

Some of its packages gather all that is below them, QUIC, WebSockets, bitswap and a hash table among it. Those are
:data:`DEFERRED`: modules below them are found as ever, but what the package itself does happens only when somebody takes a
name out of it.

Whatever touches a placeholder fails loudly instead of computing something.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import dns._features

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
    "prometheus_client",  # of the library alone
    "libp2p.rcmgr.prometheus_exporter",
    "libp2p.security.pnet.protector",
    "libp2p.transport.quic.config",
    "libp2p.transport.quic.stream",
)
DEFERRED = (
    "libp2p",
    "libp2p.relay",
    "libp2p.relay.circuit_v2",
    "libp2p.security",
    "libp2p.transport",
    "libp2p.transport.quic",
)


def install() -> None:
    """Put the placeholders into ``sys.modules``; whatever is loaded already stays."""
    dns._features.force("doq", False)  # noqa: SLF001  it says itself that it may be called; DNS over QUIC, which brings all of QUIC and of TLS with it
    for name in DEFERRED:
        if name not in sys.modules:
            _put(_Deferred(name))
    names = list(UNUSED)
    if MISSING[0] not in sys.modules and importlib.util.find_spec(MISSING[0]) is None:
        names += MISSING
    for name in names:
        if name in sys.modules:
            continue
        _put(_Placeholder(name))


def _put(module: ModuleType) -> None:
    sys.modules[module.__name__] = module
    parent, _, child = module.__name__.rpartition(".")
    if parent in sys.modules:
        setattr(sys.modules[parent], child, module)


class _Deferred(ModuleType):
    """A package whose own code runs when a name is taken out of it that is not there."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        self.__spec__, self.__loader__, self.__file__ = spec, spec.loader, spec.origin
        self.__package__, self.__path__ = name, spec.submodule_search_locations or []

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") or self.__class__ is not _Deferred:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]  # from here on it is like any other
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


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
