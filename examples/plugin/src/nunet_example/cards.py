"""Graphics processors that are declared in a file: how a vendor without a driver here would be brought in."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from dms.hardware.gpu import GPUInfo, GPUs
from dms.hardware.pci import PCIDevice

VARIABLE = "NUNET_EXAMPLE_CARDS"
"""Names a file: a list of objects with ``model``, ``uuid`` and ``vram_bytes``."""


class PretendedCards:
    """Asked in a thread, so it may read files and wait for drivers."""

    vendor = "Example"

    def is_present(self, root: Path, devices: Sequence[PCIDevice]) -> bool:
        """Only where a file is named."""
        return bool(os.environ.get(VARIABLE))

    def gpus(self, root: Path, devices: Sequence[PCIDevice]) -> GPUs:
        """Those of the file."""
        cards = json.loads(Path(os.environ[VARIABLE]).read_text())
        return GPUs(
            tuple(
                GPUInfo(
                    index=index,
                    vendor=self.vendor,
                    model=card["model"],
                    uuid=card["uuid"],
                    vram_bytes=card["vram_bytes"],
                    vram_free_bytes=card["vram_bytes"],
                )
                for index, card in enumerate(cards)
            )
        )

    def close(self) -> None:
        """There is no driver to let go of."""
