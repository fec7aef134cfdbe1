"""How large an ensemble may be: it travels in one envelope, which travels in one frame."""

from __future__ import annotations

from collections.abc import Iterator

from dms.ensemble.config import EnsembleConfig
from dms.ensemble.problem import ROOT, Problem
from dms.types import gojson
from dms.types.units import format_bytes

MAX_CANONICAL_BYTES = 700 * 2**10
"""Of the canonical JSON. A frame holds 1 MiB; the envelope inside carries its payload as base64, which leaves three
quarters, less signature and tokens."""
LARGEST_PARTS = 3


def size_problems(config: EnsembleConfig, *, file: str = "") -> tuple[Problem, ...]:
    """A problem that names the largest parts when it is too large; otherwise nothing."""
    length = len(gojson.encode(config))
    if length <= MAX_CANONICAL_BYTES:
        return ()
    parts = sorted(_parts(config), key=lambda part: -part[1])[:LARGEST_PARTS]
    largest = ", ".join(f"{path} ({format_bytes(part)})" for path, part in parts)
    reason = (
        f"the ensemble has {format_bytes(length)} in canonical form, {format_bytes(MAX_CANONICAL_BYTES)} are allowed"
    )
    hint = f"the largest parts are {largest}; bytes grow by a third in JSON" if parts else ""
    return (Problem(ROOT, reason, hint, file=file),)


def _parts(config: EnsembleConfig) -> Iterator[tuple[str, int]]:
    v1 = config.v1
    for name, script in v1.scripts.items():
        yield f"scripts.{name}", len(script) * 4 // 3
    for name, key in v1.keys.items():
        yield f"keys.{name}", len(key)
    for name, allocation in v1.allocations.items():
        for param, value in allocation.execution.params.items():
            path = f"allocations.{name}.execution.{param}"
            if isinstance(value, dict):
                yield from ((f"{path}.{key}", len(gojson.encode(member))) for key, member in value.items())
            else:
                yield path, len(gojson.encode(value))
        for index, delivered in enumerate(allocation.keys):
            yield f"allocations.{name}.keys[{index}].file", len(delivered.file)
