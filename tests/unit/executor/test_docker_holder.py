"""What holds the network of a container: the smallest program there is, and a container that may do nothing."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from dms.executor.docker.container import Names, container_config
from dms.executor.docker.guard import check
from dms.executor.docker.holder import held_by, holder_config, image_archive, pause_program
from dms.executor.docker.params import DockerParams
from dms.executor.errors import Unsupported
from dms.executor.protocol import ExecutionRequest, PortBinding
from dms.types.resources import Resources, SpecConfig

NAMES = Names("node", "job", "job-1")
ENGINE = SpecConfig(type="docker", params={"image": "alpine"})
REQUEST = ExecutionRequest(
    job_id="job",
    execution_id="job-1",
    engine=ENGINE,
    resources=Resources(),
    results_dir=Path("/results"),
    ports=(PortBinding("0.0.0.0", 16400, 80),),
    gateway_ip="10.1.2.1",
)


def test_the_program_waits_and_ends_with_a_signal(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(image_archive(os.uname().machine))) as archive:
        (entry,) = archive.getmembers()
        assert (entry.name, entry.mode) == ("pause", 0o755)
        archive.extractall(tmp_path, filter="fully_trusted")
    process = subprocess.Popen([tmp_path / "pause"])
    try:
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGCONT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
    finally:
        process.kill()
    assert process.wait(10) == -signal.SIGKILL


def test_other_machines_have_a_program_of_their_own() -> None:
    assert pause_program("aarch64")[18:20] == (183).to_bytes(2, "little")
    assert len(pause_program("aarch64")) == 64 + 56 + 7 * 4
    assert pause_program("pdp11") == b""


def test_the_holder_has_the_ports_and_the_resolver_and_no_rights() -> None:
    config = holder_config(REQUEST, NAMES, "nunet-x")
    host = config["HostConfig"]
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "16400"}]}
    assert host["Dns"][0] == "10.1.2.1"
    assert config["StopSignal"] == "SIGKILL", "the program, being the first, ignores others: each stop would take 10 s"
    assert (host["NetworkMode"], host["CapDrop"], host["CapAdd"]) == ("nunet-x", ["ALL"], [])
    assert held_by([{"Id": "h", "Labels": config["Labels"]}, {"Id": "c", "Labels": None}]) == {"node_job_job-1": "h"}


def test_the_workload_shares_its_network_and_nothing_else() -> None:
    config = container_config(REQUEST, DockerParams.parse(ENGINE), NAMES, {}, network_mode="nunet-x", holder="abc")
    host = config["HostConfig"]
    assert host["NetworkMode"] == "container:abc"
    assert not {"PortBindings", "Dns", "DnsSearch"} & host.keys()
    assert "ExposedPorts" not in config
    for other in ("container:def", "container:abc2", "container:", "host"):
        with pytest.raises(Unsupported, match="NetworkMode"):
            check(config | {"HostConfig": host | {"NetworkMode": other}}, holder="abc")
    with pytest.raises(Unsupported, match="NetworkMode"):
        check(config)
