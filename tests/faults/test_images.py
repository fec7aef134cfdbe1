"""What an image says of its containers concerns nobody but them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.faults.containers import make_image, opened, request, until_logged
from tests.faults.engine import played_engine

from dms.executor.protocol import EndReason, ExecutionStatus
from dms.testing.dockerd import TestEngine


@pytest.mark.docker
async def test_what_is_written_to_an_images_own_volume_counts_as_disk(docker: TestEngine, tmp_path: Path) -> None:
    await make_image(docker.host, "faults/volume:1", "VOLUME /data")
    async with opened(docker.host, tmp_path, disk_check_s=0.2) as executor:
        fill = "head -c 8000000 /dev/zero > /data/big; echo full; sleep 60"
        await executor.start(request(tmp_path, fill, image="faults/volume:1", disk_bytes=4_000_000))
        result = await executor.wait("e")
        assert not result.ok
        assert "4000000 bytes of disk" in result.error_msg


@pytest.mark.docker
async def test_the_disk_is_watched_after_a_restart_too(docker: TestEngine, tmp_path: Path) -> None:
    fill = "echo up; while [ ! -e /go ]; do sleep 0.05; done; head -c 8000000 /dev/zero > /big; sleep 60"
    async with opened(docker.host, tmp_path, disk_check_s=0.2) as before:
        await before.start(request(tmp_path, fill, disk_bytes=4_000_000))
        await until_logged(before, b"up")
        async with opened(docker.host, tmp_path, disk_check_s=0.2) as after:
            adopted = request(tmp_path, fill, disk_bytes=4_000_000)
            await after.start(adopted)
            assert (await after.exec("e", ("touch", "/go"))).exit_code == 0
            result = await after.wait("e")
            assert "4000000 bytes of disk" in result.error_msg


@pytest.mark.docker
async def test_neither_labels_nor_health_checks_of_an_image_reach_the_engine(
    docker: TestEngine, tmp_path: Path
) -> None:
    labels = 'LABEL traefik.enable="true" nunet-executor="other" nunet-jobID="other"'
    api = await make_image(
        docker.host, "faults/labels:1", labels, "HEALTHCHECK --interval=1s CMD touch /checked", 'CMD ["true"]'
    )
    async with opened(docker.host, tmp_path) as executor:
        await executor.start(request(tmp_path, "echo up; sleep 100", image="faults/labels:1"))
        await until_logged(executor, b"up")
        (listed,) = await api.containers({"nunet-executor": "faults"})
        assert listed["Labels"]["traefik.enable"] == ""
        assert listed["Labels"]["nunet-jobID"] == "faults_job"
        assert await api.containers({"traefik.enable": "true"}) == []
        container = await api.container(listed["Id"])
        assert container is not None
        assert "Health" not in container["State"]


@pytest.mark.docker
async def test_a_private_image_is_not_had_by_another_tag(docker: TestEngine, tmp_path: Path) -> None:
    repository = "127.0.0.1:1/team/secret"
    for tag in ("1", "2"):
        await make_image(docker.host, f"{repository}:{tag}")
    async with opened(docker.host, tmp_path) as executor:
        auth = {"username": "ann", "password": "s3cr3t"}
        await executor.start(request(tmp_path, "true", "owner", image=f"{repository}:1", registry_auth=auth))
        await executor.wait("owner")
        await executor.start(request(tmp_path, "true", "other", image=f"{repository}:2"))
        assert (await executor.wait("other")).reason is EndReason.INFRASTRUCTURE


async def test_a_private_image_is_not_had_by_its_digest(tmp_path: Path) -> None:
    repository, digest = "registry.example/team/secret", f"sha256:{'a' * 64}"
    image = {"RepoTags": [f"{repository}:1"], "RepoDigests": [f"{repository}@{digest}"]}
    async with played_engine(tmp_path) as engine, opened(f"unix://{engine.socket}", tmp_path) as executor:
        engine.instead["image"] = 200, json.dumps(image).encode()
        auth = {"username": "ann", "password": "s3cr3t"}
        await executor.start(request(tmp_path, "true", "owner", image=f"{repository}:1", registry_auth=auth))
        await executor.wait_for_status("owner", ExecutionStatus.RUNNING)
        engine.instead["pull"] = 200, b'{"error": "unauthorized"}'
        await executor.start(request(tmp_path, "true", "other", image=f"{repository}@{digest}"))
        result = await executor.wait("other")
        assert (result.reason, result.ok) == (EndReason.INFRASTRUCTURE, False)
        assert "unauthorized" in result.error_msg
        engine.ended.set()
