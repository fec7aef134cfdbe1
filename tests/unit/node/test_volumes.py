"""Volumes for the owner of the machine and for tenants: behaviours as they travel, on the real controller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.cli.behaviours import KNOWN
from dms.identity.ids import did_of
from dms.node.hosting import HostingOptions
from dms.node.volume_payloads import KeyRequest
from dms.node.volumes import MAX_LISTED, MAX_USERS_TOLD
from dms.storage.prepare import Volumes
from dms.storage.sealing import SealingKey
from dms.storage.service import StorageOptions, open_volumes
from dms.storage.volume import VolumeSource
from dms.store import Store
from dms.testing.nodes import Cluster, SimulatedNode
from dms.types.errors import DMSError

Json = dict[str, Any]


@dataclass
class Machine:
    node: SimulatedNode
    volumes: Volumes

    async def ask(self, behaviour: str, **payload: object) -> Json:
        return await self.node.user.invoke(f"/dms/node/volume/{behaviour}", payload, Json)


@pytest.fixture
async def machine(autojump_clock: MockClock, cluster: Cluster, tmp_path: Path) -> AsyncIterator[Machine]:
    async with await Store.open(None) as store, open_volumes(store, tmp_path / "bob", StorageOptions()) as volumes:
        node = await cluster.start("bob", hosting=HostingOptions(volumes=volumes))
        yield Machine(node, volumes)


async def test_a_volume_is_made_listed_locked_unlocked_and_deleted(autojump_clock: MockClock, machine: Machine) -> None:
    made = await machine.ask("create", name="data")
    id_ = made["volume"]["id"]
    owner = str(did_of(machine.node.cluster.user_key.public))
    assert (made["OK"], made["volume"]["name"], made["volume"]["tenant"]) == (True, "data", owner)
    path = machine.volumes.controller.base / id_
    (path / "hello").write_text("hello")
    assert [volume["id"] for volume in (await machine.ask("list"))["volumes"]] == [id_]
    assert (await machine.ask("list"))["volumes"][0]["size_bytes"] is None, "what may change is not counted"
    size = (await machine.ask("size", volume="data"))["volume"]
    assert (size["size_bytes"], size["files"], size["locked"]) == (5, 1, False)
    locked = (await machine.ask("lock", volume=id_[:12]))["volume"]
    assert locked["locked"]
    assert (await machine.ask("inspect", volume=locked["cid"]))["volume"] == locked
    assert (await machine.ask("unlock", volume="data"))["volume"]["cid"] == ""
    assert await machine.ask("delete", volume="data") == {"OK": True}
    assert not path.exists()
    assert await machine.ask("list") == {"OK": True}


async def test_a_volume_is_encrypted_with_a_key_that_is_told_nowhere(
    autojump_clock: MockClock, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    key = SealingKey.generate().text()
    await machine.ask("create", name="data")
    assert (await machine.ask("encrypt", volume="data", key=key))["volume"]["encrypted"]
    wrong = await machine.ask("decrypt", volume="data", key=SealingKey.generate().text())
    assert (wrong["OK"], wrong["code"]) == (False, "cannot_unseal")
    none = await machine.ask("decrypt", volume="data", key="s3cr3t")
    assert (none["code"], "s3cr3t" in str(none)) == ("invalid_storage_spec", False)
    assert not (await machine.ask("decrypt", volume="data", key=key))["volume"]["encrypted"]
    assert key[-20:] not in caplog.text + repr(caplog.records) + repr(KeyRequest(volume="data", key=key))


@pytest.mark.parametrize(
    ("behaviour", "payload", "code"),
    [
        ("inspect", {"volume": "absent"}, "volume_not_found"),
        ("inspect", {}, "invalid_volume_name"),
        ("create", {"name": "../up"}, "invalid_volume_name"),
        ("create", {"name": "data"}, "volume_exists"),
        ("create", {"name": "more", "client_pem": "-----BEGIN"}, "storage_provider_missing"),
        ("lock", {"volume": "data", "cid": "none"}, "invalid_storage_spec"),
        ("unlock", {"volume": "data"}, "volume_not_locked"),
        ("decrypt", {"volume": "data", "key": SealingKey.generate().text()}, "volume_sealed"),
    ],
)
async def test_what_cannot_be_is_told_with_its_kind(
    autojump_clock: MockClock, machine: Machine, behaviour: str, payload: Json, code: str
) -> None:
    await machine.ask("create", name="data")
    refused = await machine.ask(behaviour, **payload)
    assert (refused["OK"], refused["code"]) == (False, code)
    assert refused["error"]


async def test_what_a_workload_uses_is_neither_deleted_nor_changed(autojump_clock: MockClock, machine: Machine) -> None:
    controller = machine.volumes.controller
    volume = await controller.named("did:key:alice", "data")
    await controller.acquire(volume, "job-1", write=True, target="/data")
    for behaviour in ("delete", "lock", "encrypt"):
        refused = await machine.ask(behaviour, volume=volume.id, **_key(behaviour))
        assert refused["code"] == "volume_in_use"
    (listed,) = (await machine.ask("list"))["volumes"]
    assert listed["used_by"] == [{"owner": "job-1", "writing": True, "target": "/data"}]
    assert (await machine.ask("prune", named=True)) == {"OK": True}
    await controller.release("job-1")
    assert (await machine.ask("delete", volume=volume.id))["OK"]


def _key(behaviour: str) -> Json:
    return {"key": SealingKey.generate().text()} if behaviour == "encrypt" else {}


async def test_pruning_takes_kept_downloads_and_named_ones_only_when_asked(
    autojump_clock: MockClock, machine: Machine
) -> None:
    controller = machine.volumes.controller
    download = await controller.create(VolumeSource.HTTP, origin="o" * 32)
    (download.path / "file").write_text("12345")
    named = await controller.named("did:key:alice", "data")
    plain = await controller.create(VolumeSource.JOB)
    (found,) = (await machine.ask("prune", dry_run=True))["volumes"]
    assert (found["id"], found["size_bytes"]) == (download.id, 5)
    assert await machine.ask("prune", older_than_s=3600.0) == {"OK": True}
    assert await machine.ask("prune", ids=["local-other"]) == {"OK": True}
    assert [v.id for v in await controller.list()] == [download.id, named.id, plain.id]
    assert [v["id"] for v in (await machine.ask("prune"))["volumes"]] == [download.id]
    assert [v["id"] for v in (await machine.ask("prune", named=True))["volumes"]] == [named.id]
    assert [v.id for v in await controller.list()] == [plain.id]


async def test_a_reply_holds_no_more_than_a_message_can(autojump_clock: MockClock, machine: Machine) -> None:
    controller = machine.volumes.controller
    shared = await controller.named("did:key:alice", "data")
    for number in range(MAX_USERS_TOLD + 5):
        await controller.acquire(shared, f"job-{number}")
    volumes = [shared, *[await controller.create(VolumeSource.JOB) for _ in range(MAX_LISTED)]]
    first = await machine.ask("list")
    assert ([volume["id"] for volume in first["volumes"]], first["has_more"]) == ([v.id for v in volumes[:-1]], True)
    assert (first["volumes"][0]["users"], len(first["volumes"][0]["used_by"])) == (MAX_USERS_TOLD + 5, MAX_USERS_TOLD)
    rest = await machine.ask("list", offset=MAX_LISTED)
    assert ([volume["id"] for volume in rest["volumes"]], "has_more" in rest) == ([volumes[-1].id], False)


async def test_a_tenant_has_its_own_volumes_and_sees_no_others(
    autojump_clock: MockClock, cluster: Cluster, machine: Machine
) -> None:
    await machine.volumes.controller.named("did:key:somebody", "data")
    user = machine.node.user

    async def ask(behaviour: str, **payload: object) -> Json:
        return await user.invoke(f"/dms/volume/{behaviour}", payload, Json)

    assert await ask("list") == {"OK": True}
    assert (await ask("delete", name="data"))["code"] == "volume_not_found"
    assert (await ask("start", name="mine"))["code"] == "volume_not_found"
    assert (await ask("create", name="mine"))["OK"]
    assert (await ask("start", name="mine"))["OK"]
    assert [volume["name"] for volume in (await ask("list"))["volumes"]] == ["mine"]
    assert await ask("delete", name="mine") == {"OK": True}
    assert len(await machine.volumes.controller.list()) == 1


async def test_strangers_get_nothing(autojump_clock: MockClock, cluster: Cluster, machine: Machine) -> None:
    alice = await cluster.start("alice")
    await trio.sleep(60)
    for name in ("/dms/node/volume/list", "/dms/volume/create"):
        with pytest.raises(DMSError):
            await alice.node.root.invoke(machine.node.node.root.handle, name, {"name": "x"}, Json, timeout_s=5)
    assert await machine.volumes.controller.list() == ()


def test_the_command_line_knows_every_behaviour() -> None:
    from dms.node.volumes import OWNER, TENANT

    known = {behaviour.name for behaviour in KNOWN if behaviour.name.startswith((f"{OWNER}/", f"{TENANT}/"))}
    assert len(known) == 18
