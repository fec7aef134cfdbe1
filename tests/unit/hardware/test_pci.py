from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.hardware.pci import AMD, INTEL, graphics, model_names, normalized
from dms.testing.machines import plant


def test_graphics_processors_and_accelerators_are_found_and_nothing_else(tmp_path: Path) -> None:
    found = graphics(plant("amd", tmp_path))
    assert [(d.address, d.vendor, d.device, d.driver) for d in found] == [
        ("0000:0b:00.0", AMD, 0x73BF, "amdgpu"),
        ("0000:43:00.0", AMD, 0x740F, "amdgpu"),
        ("0000:63:00.0", AMD, 0x67DF, ""),
    ]
    assert found[0].nodes == ("/dev/dri/card0", "/dev/dri/renderD128")
    assert [d.render_minor for d in found] == [128, 129, 0]


def test_a_machine_without_a_bus_has_none(tmp_path: Path) -> None:
    assert graphics(tmp_path) == ()


def test_models_are_looked_up_in_the_list_of_ids(tmp_path: Path) -> None:
    devices = graphics(plant("amd", tmp_path))
    assert model_names(tmp_path, devices) == {
        (AMD, 0x73BF): "Navi 21 [Radeon RX 6800/6800 XT / 6900 XT]",
        (AMD, 0x740F): "Aldebaran/MI200 [Instinct MI210]",
    }
    assert model_names(tmp_path, ()) == {}
    assert (INTEL, 0x56A0) not in model_names(tmp_path, devices)


def test_without_the_list_there_are_no_names(tmp_path: Path) -> None:
    devices = graphics(plant("amd", tmp_path))
    (tmp_path / "usr/share/misc/pci.ids").unlink()
    assert model_names(tmp_path, devices) == {}


@pytest.mark.parametrize(
    ("address", "result"),
    [
        ("00000000:01:00.0", "0000:01:00.0"),
        ("0000:01:00.0", "0000:01:00.0"),
        ("01:00.0", "0000:01:00.0"),
        ("00010000:3B:00.0", "10000:3b:00.0"),
        ("nonsense", "nonsense"),
    ],
)
def test_addresses_are_written_as_the_kernel_does(address: str, result: str) -> None:
    assert normalized(address) == result


@given(st.text())
def test_no_text_for_an_address_is_too_strange(text: str) -> None:
    normalized(text)
