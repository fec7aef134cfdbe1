"""From the canonical configuration back to a file that a person reads and edits: the inverse of loading.

Units are for people, execution is flat, equal cards are counted, groups stay groups, what is a default is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dms.ensemble.config import EnsembleConfig
from dms.ensemble.format import V1
from dms.ensemble.writing import Path, write_yaml
from dms.types import gojson

ORDER = ("metadata", "keys", "scripts", "allocations", "nodes")
"""What comes first; the rest follows in the order of the format."""
STAY_DOWN = "stay_down"


def render(config: EnsembleConfig, comments: Mapping[Path, Sequence[str]] | None = None) -> str:
    """The file, as YAML; loading it gives the same configuration again."""
    return write_yaml(as_written(config), comments)


def as_written(config: EnsembleConfig) -> dict[str, Any]:  # a document of the format
    """What a person would write, as plain values."""
    written: dict[str, Any] = V1.write(gojson.to_builtins(config)["v1"])
    for name, allocation in written["allocations"].items():
        if allocation.get("dns_name") == name:
            del allocation["dns_name"]
    for part in (*written["allocations"].values(), *written["nodes"].values()):
        if part.get("failure_recovery") == STAY_DOWN:
            del part["failure_recovery"]
    first = {name: written[name] for name in ORDER if name in written}
    return {"version": "V1"} | first | {name: value for name, value in written.items() if name not in first}
