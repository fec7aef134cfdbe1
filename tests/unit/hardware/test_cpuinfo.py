from hypothesis import given
from hypothesis import strategies as st

from dms.hardware.cpuinfo import CPUInfo, parse_cpuinfo

INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
model\t\t: 142
model name\t: Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz
cpu MHz\t\t: 800.024
cache size\t: 8192 KB

processor\t: 1
model name\t: another
cpu MHz\t\t: 3999.0
"""
ARM = """processor\t: 0
BogoMIPS\t: 108.00
CPU implementer\t: 0x41
CPU architecture: 8

Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""


def test_the_first_processor_counts() -> None:
    assert parse_cpuinfo(INTEL) == CPUInfo(
        "Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz", "GenuineIntel", 8192 * 1024, 800_024_000.0, 1.8e9
    )


def test_arm_tells_the_board_and_an_implementer() -> None:
    assert parse_cpuinfo(ARM) == CPUInfo("Raspberry Pi 4 Model B Rev 1.4", "ARM")


def test_nothing_known_is_empty() -> None:
    assert parse_cpuinfo("") == CPUInfo()
    assert parse_cpuinfo("model\t: 142\ncpu MHz : fast\n") == CPUInfo()


@given(st.text(alphabet=st.characters() | st.sampled_from(":\n")), st.text())
def test_any_text_is_read_without_complaint(text: str, mhz: str) -> None:
    info = parse_cpuinfo(f"{text}\ncpu MHz: {mhz}\nmodel name: x @ {mhz}GHz")
    assert info.present_hz >= 0
    assert info.nominal_hz >= 0
