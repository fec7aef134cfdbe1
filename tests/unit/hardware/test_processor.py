import os
from pathlib import Path

from dms.hardware.cgroup import Limits
from dms.hardware.processor import ASSUMED_HZ, busy_share, read_processor

TWO_SOCKETS = "".join(
    f"processor\t: {n}\nmodel name\t: Fast @ 2.10GHz\nphysical id\t: {n // 4}\ncore id\t\t: {n % 2}\n"
    "cpu MHz\t\t: 1200.0\nflags\t\t: fpu avx2 aes fpu\n\n"
    for n in range(8)
)


def planted(root: Path, cpuinfo: str, **files: str) -> Path:
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(cpuinfo)
    for name, content in files.items():
        place = root / "sys/devices/system/cpu/cpufreq" / name / "cpuinfo_max_freq"
        place.parent.mkdir(parents=True)
        place.write_text(content)
    return root


def test_cores_threads_features_and_clock_are_told(tmp_path: Path) -> None:
    found = read_processor(planted(tmp_path, TWO_SOCKETS, policy0="2800000", policy4="3600000"), Limits())
    assert (found.physical_cores, found.clock_hz, found.features) == (4, 3.6e9, ("aes", "avx2", "fpu"))
    assert found.threads == len(os.sched_getaffinity(0)) == found.cores
    assert found.resource.threads == found.threads


def test_without_a_highest_clock_the_one_in_the_name_counts_then_the_present_one(tmp_path: Path) -> None:
    assert read_processor(planted(tmp_path, TWO_SOCKETS), Limits()).clock_hz == 2.1e9
    (tmp_path / "proc/cpuinfo").write_text("cpu MHz : 1200.0\n")
    assert read_processor(tmp_path, Limits()).clock_hz == 1.2e9
    (tmp_path / "proc/cpuinfo").write_text("")
    found = read_processor(tmp_path, Limits())
    assert (found.clock_hz, found.physical_cores) == (ASSUMED_HZ, None)


def test_a_quota_bounds_the_cores(tmp_path: Path) -> None:
    found = read_processor(planted(tmp_path, TWO_SOCKETS), Limits(cores=0.759))
    assert found.cores == 0.75
    assert found.threads >= 1
    assert read_processor(tmp_path, Limits(cores=0.0001)).cores == 0.01


def test_the_share_of_busy_time_lies_between_nothing_and_all() -> None:
    assert busy_share((10, 100), (15, 110)) == 0.5
    assert busy_share((10, 100), (10, 100)) == 0
    assert busy_share((10, 100), (5, 110)) == 0
    assert busy_share((10, 100), (99, 110)) == 1
