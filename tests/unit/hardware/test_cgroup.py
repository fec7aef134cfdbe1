from pathlib import Path

from dms.hardware.cgroup import Limits, read_limits


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_no_control_groups_no_limits(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == Limits()


def test_version_2_takes_the_smallest_limit_on_the_way_to_the_root(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b",
            "sys/fs/cgroup/cgroup.controllers": "cpu memory",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000",
            "sys/fs/cgroup/a/cpu.max": "150000 100000",
            "sys/fs/cgroup/a/b/memory.max": "1000",
            "sys/fs/cgroup/a/b/memory.current": "700",
            "sys/fs/cgroup/a/b/memory.stat": "anon 5\ninactive_file 200\nactive_file 9",
            "sys/fs/cgroup/a/memory.max": "max",
        },
    )
    assert read_limits(root) == Limits(1.5, 1000, 500)


def test_version_1_has_a_tree_per_controller(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/x\n2:cpu,cpuacct:/y\n1:name=systemd:/\n0::/",
            "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "2000",
            "sys/fs/cgroup/memory/x/memory.usage_in_bytes": "900",
            "sys/fs/cgroup/memory/x/memory.stat": "cache 1\ntotal_inactive_file 1000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/cpu/y/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu/y/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert read_limits(root) == Limits(0.5, 2000, 0)


def test_nonsense_and_paths_that_lead_out_are_ignored(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "garbage\n0::/../../etc\n0::/a",
            "sys/fs/cgroup/cgroup.controllers": "",
            "sys/fs/cgroup/a/cpu.max": "much",
            "sys/fs/cgroup/a/memory.max": "-5",
        },
    )
    assert read_limits(root) == Limits()
