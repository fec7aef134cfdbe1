"""Volumes with one file, whose text stands in the ensemble."""

from __future__ import annotations

from pathlib import Path

from dms.storage.errors import InvalidStorageSpec
from dms.storage.transfer import Gathering, Meter
from dms.types.resources import SpecConfig

FILE = "text"


class TextProvider:
    """Nothing comes from elsewhere, so nothing can break off."""

    type = "example.text"

    def check(self, spec: SpecConfig) -> None:
        """``text`` must be text."""
        if not isinstance(spec.params.get("text"), str):
            raise InvalidStorageSpec("example.text needs a text")

    def check_target(self, spec: SpecConfig) -> None:
        """Nothing can be uploaded."""
        raise InvalidStorageSpec("example.text cannot be uploaded to")

    async def size(self, source: SpecConfig) -> int:
        """Bytes of the text."""
        return len(str(source.params["text"]).encode())

    async def download(self, source: SpecConfig, into: Gathering, meter: Meter) -> None:
        """Write the file."""
        data = str(source.params["text"]).encode()
        meter.expect(len(data), 1)
        await into.prepare()
        async with await into.part(FILE, "") as part:
            await part.write(data)
            meter.add(len(data))
            await part.finish()
        meter.file()

    async def upload(self, directory: Path, target: SpecConfig, meter: Meter) -> SpecConfig:
        """Never called, as :meth:`check_target` refuses."""
        raise InvalidStorageSpec("example.text cannot be uploaded to")
