"""Commented ensembles to begin with, one for each kind of work."""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files


class Kind(StrEnum):
    """Kinds of work."""

    SERVICE = "service"
    BATCH = "batch"
    GPU = "gpu"
    VM = "vm"
    WASM = "wasm"


def sample(kind: Kind) -> str:
    """The text of a valid ensemble with comments."""
    return files("dms.ensemble").joinpath("examples", f"{kind.value}.yaml").read_text(encoding="utf-8")
