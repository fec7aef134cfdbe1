"""Tests of microVMs that need drivers which a kernel has as modules."""

from __future__ import annotations

from pathlib import Path

import pytest


def need_modules(images: Path) -> None:
    """Skip the test where a folder of images (:func:`dms.testing.vms.make_images`) has none."""
    if not (images / "modules").is_dir():
        pytest.skip("needs the kernel's modules: DMS_TEST_VM_MODULES=lib/modules/VERSION")
