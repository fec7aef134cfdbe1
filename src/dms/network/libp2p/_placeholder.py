"""Stands in for ``fastecdsa`` while the libp2p library is imported.

The library imports it for the keys of two schemes that are never used here: P-256 host keys and the ephemeral keys of
secio. It has no wheels, so installing it takes a C compiler and GMP headers on every machine. Where it is installed
anyway, the real one is used. Whatever touches a placeholder fails loudly instead of computing something.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

NAMES = (
    "fastecdsa",
    "fastecdsa.curve",
    "fastecdsa.keys",
    "fastecdsa.point",
    "fastecdsa.encoding",
    "fastecdsa.encoding.sec1",
    "fastecdsa.encoding.util",
)


class _Missing(ModuleType):
    """A module whose every public name is a class that cannot be used."""

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
        raise RuntimeError("fastecdsa is not installed: P-256 keys and secio are not supported")


def install() -> None:
    """Put the placeholder into ``sys.modules``, unless the real package is there."""
    if NAMES[0] in sys.modules or importlib.util.find_spec(NAMES[0]) is not None:
        return
    for name in NAMES:
        module = _Missing(name)
        module.__path__ = []
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
