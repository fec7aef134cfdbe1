"""The volumes of this machine, for its owner (``/dms/node/volume/…``) and for whoever has some here (``/dms/volume/…``).

A tenant's own volumes are named by the name that they have in descriptions, and nobody else's are ever told of
(``spec/orchestration.md`` 2.3: only the creator may delete). The owner sees all of them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.node.listing import rfc3339
from dms.node.payloads import Nil
from dms.node.volume_payloads import (
    CreateRequest,
    KeyRequest,
    ListRequest,
    LockRequest,
    NameRequest,
    PruneRequest,
    VolumeInfo,
    VolumeReply,
    VolumeRequest,
    VolumesReply,
    VolumeUse,
)
from dms.observe import get_logger
from dms.storage.controller import VolumeController
from dms.storage.errors import ProviderMissing, VolumeExists, VolumeInUse, VolumeNotFound
from dms.storage.lookup import pick
from dms.storage.sealing import SealingKey
from dms.storage.volume import Volume
from dms.types.errors import DMSError

OWNER, TENANT = "/dms/node/volume", "/dms/volume"
NS_PER_S = 10**9
MAX_LISTED, MAX_PRUNED, MAX_USERS_TOLD = 200, 1000, 20
"""In one reply: it must fit into a message."""

log = get_logger(__name__)


Answer = VolumeReply | VolumesReply
Handler = Callable[[Message[Any]], Awaitable[Answer]]


class VolumeBehaviours:
    """Answers for the volumes of ``controller``."""

    def __init__(self, controller: VolumeController, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._controller = controller
        self._now_ns = now_ns

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        table: tuple[tuple[str, Handler, Any, type[VolumeReply | VolumesReply]], ...] = (
            (f"{OWNER}/list", self._list, ListRequest | None, VolumesReply),
            (f"{OWNER}/create", self._create, CreateRequest, VolumeReply),
            (f"{OWNER}/inspect", self._inspect, VolumeRequest, VolumeReply),
            (f"{OWNER}/size", self._inspect, VolumeRequest, VolumeReply),
            (f"{OWNER}/delete", self._delete, VolumeRequest, VolumeReply),
            (f"{OWNER}/lock", self._lock, LockRequest, VolumeReply),
            (f"{OWNER}/unlock", self._unlock, VolumeRequest, VolumeReply),
            (f"{OWNER}/encrypt", self._encrypt, KeyRequest, VolumeReply),
            (f"{OWNER}/decrypt", self._decrypt, KeyRequest, VolumeReply),
            (f"{OWNER}/prune", self._prune, PruneRequest, VolumesReply),
            (f"{TENANT}/list", self._list_own, Nil, VolumesReply),
            (f"{TENANT}/create", self._create, CreateRequest, VolumeReply),
            (f"{TENANT}/start", self._start_own, NameRequest, VolumeReply),
            (f"{TENANT}/delete", self._delete_own, NameRequest, VolumeReply),
        )
        for name, handler, payload, reply in table:
            self._on(actor, name, handler, payload, reply)

    @staticmethod
    def _on(actor: Actor, name: str, handler: Handler, payload: Any, reply: type[VolumeReply | VolumesReply]) -> None:
        async def answer(message: Message[Any]) -> Answer:
            try:
                return await handler(message)
            except DMSError as exc:
                return reply(ok=False, error=exc.message, hint=exc.hint, code=exc.code)

        actor.on(name, answer, payload=payload, error_reply=lambda error: reply(ok=False, error=error))

    # for the owner -------------------------------------------------------------------------------------------------

    async def _list(self, message: Message[ListRequest | None]) -> VolumesReply:
        offset = max(0, message.payload.offset) if message.payload else 0
        left = (await self._controller.list())[offset:]
        volumes = tuple(_info(volume) for volume in left[:MAX_LISTED])
        return VolumesReply(ok=True, volumes=volumes, has_more=len(left) > MAX_LISTED)

    async def _inspect(self, message: Message[VolumeRequest]) -> VolumeReply:
        return await self._counted(await self._meant(message))

    async def _delete(self, message: Message[VolumeRequest]) -> VolumeReply:
        volume = await self._meant(message)
        await self._controller.delete(volume.path)
        log.info("volume_deleted", volume=volume.id, by=message.sender.did.uri)
        return VolumeReply(ok=True)

    async def _lock(self, message: Message[LockRequest]) -> VolumeReply:
        volume = await self._meant(message)
        return VolumeReply(ok=True, volume=_info(await self._controller.lock(volume.path, cid=message.payload.cid)))

    async def _unlock(self, message: Message[VolumeRequest]) -> VolumeReply:
        return VolumeReply(ok=True, volume=_info(await self._controller.unlock((await self._meant(message)).path)))

    async def _encrypt(self, message: Message[KeyRequest]) -> VolumeReply:
        volume, key = await self._meant(message), SealingKey.parse(message.payload.key)
        return VolumeReply(ok=True, volume=_info(await self._controller.encrypt(volume.path, key)))

    async def _decrypt(self, message: Message[KeyRequest]) -> VolumeReply:
        volume, key = await self._meant(message), SealingKey.parse(message.payload.key)
        return VolumeReply(ok=True, volume=_info(await self._controller.decrypt(volume.path, key)))

    async def _prune(self, message: Message[PruneRequest]) -> VolumesReply:
        """What is found is deleted one by one: what somebody begins to use meanwhile stays."""
        asked, gone = message.payload, list[VolumeInfo]()
        before_ns = self._now_ns() - int(max(0.0, asked.older_than_s) * NS_PER_S)
        for volume in await self._controller.list():
            if len(gone) == MAX_PRUNED:
                return VolumesReply(ok=True, volumes=tuple(gone), has_more=True)
            is_kept_download = bool(volume.record.origin)
            is_named = asked.named and bool(volume.record.label)
            if volume.record.uses or not (is_kept_download or is_named) or volume.updated_at_ns > before_ns:
                continue
            if asked.ids and volume.id not in asked.ids:
                continue
            counted = await self._counted(volume)
            if not asked.dry_run:
                try:
                    await self._controller.delete(volume.path)
                except (VolumeInUse, VolumeNotFound):
                    continue
                log.info("volume_deleted", volume=volume.id, by=message.sender.did.uri)
            if counted.volume is not None:
                gone.append(counted.volume)
        return VolumesReply(ok=True, volumes=tuple(gone))

    async def _meant(self, message: Message[Any]) -> Volume:
        return pick(await self._controller.list(), message.payload.volume, tenant=message.sender.did.uri)

    async def _counted(self, volume: Volume) -> VolumeReply:
        if volume.is_locked or volume.is_sealed:
            return VolumeReply(ok=True, volume=_info(volume))
        extent = await self._controller.extent(volume)
        info = msgspec.structs.replace(_info(volume), size_bytes=extent.size_bytes, files=extent.files)
        return VolumeReply(ok=True, volume=info)

    # for tenants ---------------------------------------------------------------------------------------------------

    async def _create(self, message: Message[CreateRequest]) -> VolumeReply:
        if message.payload.client_pem:
            raise ProviderMissing("this node serves no volumes of GlusterFS", hint="leave the certificate out")
        tenant, name = message.sender.did.uri, message.payload.name
        if any(volume.record.label == name for volume in await self._own(message)):
            raise VolumeExists(f"there is a volume {name[:80]} already")
        return VolumeReply(ok=True, volume=_info(await self._controller.named(tenant, name)))

    async def _list_own(self, message: Message[Any]) -> VolumesReply:
        return VolumesReply(ok=True, volumes=tuple(_info(volume) for volume in await self._own(message)))

    async def _start_own(self, message: Message[NameRequest]) -> VolumeReply:
        """Volumes of this kind need no start: it is enough that there is one."""
        return VolumeReply(ok=True, volume=_info(await self._named_own(message)))

    async def _delete_own(self, message: Message[NameRequest]) -> VolumeReply:
        volume = await self._named_own(message)
        await self._controller.delete(volume.path)
        log.info("volume_deleted", volume=volume.id, by=message.sender.did.uri)
        return VolumeReply(ok=True)

    async def _own(self, message: Message[Any]) -> tuple[Volume, ...]:
        tenant = message.sender.did.uri
        return tuple(volume for volume in await self._controller.list() if volume.record.tenant == tenant)

    async def _named_own(self, message: Message[NameRequest]) -> Volume:
        name = message.payload.name
        for volume in await self._own(message):
            if name and volume.record.label == name:
                return volume
        raise VolumeNotFound(f"volume not found: {name[:80]}")


def _info(volume: Volume) -> VolumeInfo:
    record = volume.record
    is_counted = volume.is_locked or volume.is_sealed
    return VolumeInfo(
        id=volume.id,
        name=record.label,
        tenant=record.tenant,
        source=record.source,
        cid=volume.cid,
        locked=volume.is_locked,
        private=volume.is_private,
        encrypted=volume.is_sealed,
        size_bytes=record.size_bytes if is_counted else None,
        files=record.files if is_counted else None,
        created_at=rfc3339(volume.created_at_ns),
        updated_at=rfc3339(volume.updated_at_ns),
        used_by=tuple(
            VolumeUse(owner=use.owner, writing=use.is_writing, target=use.target)
            for use in record.uses[:MAX_USERS_TOLD]
        ),
        users=len(record.uses),
    )
