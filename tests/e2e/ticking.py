"""A service that ticks every 100 ms, as a file to deploy."""

from __future__ import annotations

import json
from pathlib import Path

TICKER = Path(__file__).parents[2] / "examples" / "programs" / "ticker.wasm"


def ticker(directory: Path, **node: object) -> Path:
    """An ensemble of one service ``tick`` on a node ``n`` with these keys."""
    (directory / TICKER.name).write_bytes(TICKER.read_bytes())
    document = {
        "version": "V1",
        "allocations": {
            "tick": {
                "type": "service",
                "executor": "wasm",
                "resources": {"cpu": {"cores": 0.1}, "ram": {"size": "32MiB"}, "disk": {"size": "16MiB"}},
                "execution": {
                    "type": "wasm",
                    "module": f"${{file:{TICKER.name}}}",
                    "environment": {"TICK_MS": "100"},
                },
            }
        },
        "nodes": {"n": {"allocations": ["tick"], **node}},
    }
    file = directory / "service.json"
    file.write_text(json.dumps(document))
    return file
