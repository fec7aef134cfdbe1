"""Updates of running deployments, for their users: ``/dms/node/deployment/update`` and what belongs to it.

``update`` is the original's (``spec/orchestration.md`` 8), with more to say than that; ``scale``, ``revert``, ``versions``,
``version`` and ``update/cancel`` are ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.ensemble.arrival import decode_ensemble
from dms.ensemble.config import EnsembleConfig
from dms.node.deployments import NAMESPACE
from dms.node.explaining import ExplainingBehaviours
from dms.node.finding import find_deployment
from dms.node.listing import rfc3339
from dms.node.updating_payloads import (
    RevertRequest,
    ScaleRequest,
    UpdateReply,
    UpdateRequest,
    VersionInfo,
    VersionReply,
    VersionsReply,
    VersionsRequest,
)
from dms.orchestrator.deployments import Deployments
from dms.orchestrator.journal import DeploymentRecord
from dms.orchestrator.updating.requests import Updates, Wish
from dms.orchestrator.updating.state import Version
from dms.orchestrator.updating.versions import history_of
from dms.types.errors import DMSError


class UpdatingBehaviours:
    """Takes updates, and tells of them."""

    def __init__(
        self,
        deployments: Deployments,
        updates: Updates,
        plans: ExplainingBehaviours,
    ) -> None:
        self._deployments = deployments
        self._updates = updates
        self._plans = plans

    def register(self, actor: Actor) -> None:
        """Answer on ``actor``."""
        table: tuple[tuple[str, Callable[[Message[Any]], Awaitable[object]], Any, Callable[[str], object]], ...] = (
            ("update", self._update, UpdateRequest, lambda e: UpdateReply(error=e)),
            ("update/cancel", self._cancel, VersionsRequest, lambda e: UpdateReply(error=e)),
            ("scale", self._scale, ScaleRequest, lambda e: UpdateReply(error=e)),
            ("revert", self._revert, RevertRequest, lambda e: UpdateReply(error=e)),
            ("versions", self._versions, VersionsRequest, lambda e: VersionsReply(error=e)),
            ("version", self._version, VersionsRequest, lambda e: VersionReply(error=e)),
        )
        for name, handler, payload, error_reply in table:
            actor.on(f"{NAMESPACE}/{name}", handler, payload=payload, error_reply=error_reply)

    async def _update(self, message: Message[UpdateRequest]) -> UpdateReply:
        try:
            record = self._find(message.payload.ensemble_id)
            return await self._begin(message, record, decode_ensemble(message.payload.ensemble))
        except DMSError as exc:
            return UpdateReply(error=exc.message, hint=exc.hint)

    async def _scale(self, message: Message[ScaleRequest]) -> UpdateReply:
        try:
            record = self._find(message.payload.id)
            written = await self._updates.scaled(record.id, message.payload.counts)
            return await self._begin(message, record, written)
        except DMSError as exc:
            return UpdateReply(error=exc.message, hint=exc.hint)

    async def _revert(self, message: Message[RevertRequest]) -> UpdateReply:
        try:
            record = self._find(message.payload.id)
            written, number = await self._updates.earlier(record.id, message.payload.to)
            return await self._begin(message, record, written, copy_of=number)
        except DMSError as exc:
            return UpdateReply(error=exc.message, hint=exc.hint)

    async def _begin(
        self,
        message: Message[UpdateRequest] | Message[ScaleRequest] | Message[RevertRequest],
        record: DeploymentRecord,
        written: EnsembleConfig,
        *,
        copy_of: int = 0,
    ) -> UpdateReply:
        wanted = message.payload
        if wanted.dry_run:
            live = self._deployments.live(record.id)
            moves = self._updates.changes(live, written, wanted.expect)
            plan = await self._plans.plan_for(written, DeploymentRecord(record.id, live.base, live.state))
            return UpdateReply(ok=True, version=live.state.version, stops=moves.stops, plan=plan)
        wish = Wish(
            by=message.sender.did.uri,
            expiry_ns=message.expiry_ns,
            batch=wanted.batch,
            healthy_for_s=wanted.healthy_for_ms / 1000,
            queue_for_s=wanted.queue_timeout_ms / 1000,
            may_stop=not wanted.no_gap,
            expected=wanted.expect,
            request=wanted.request,
        )
        asked = await self._updates.update(record.id, written, wish, copy_of=copy_of)
        return UpdateReply(
            ok=True, version=asked.version, what=asked.what, changed=asked.is_new, stops=dict(asked.moves.stops)
        )

    async def _cancel(self, message: Message[VersionsRequest]) -> UpdateReply:
        try:
            record = self._find(message.payload.id)
            version = await self._deployments.live(record.id).orders.cancel_update(message.sender.did.uri)
        except DMSError as exc:
            return UpdateReply(error=exc.message, hint=exc.hint)
        return UpdateReply(ok=True, version=version, changed=True)

    async def _versions(self, message: Message[VersionsRequest]) -> VersionsReply:
        record = self._find(message.payload.id)
        state, update = record.state, record.state.update if record.state.is_updating else None
        return VersionsReply(
            id=record.id,
            version=state.version,
            versions=tuple(_told(version) for version in history_of(state)),
            stage=update.stage.value if update is not None else "",
            reverts=update is not None and update.is_back,
            why=update.why if update is not None else "",
        )

    async def _version(self, message: Message[VersionsRequest]) -> VersionReply:
        record = self._find(message.payload.id)
        return VersionReply(ensemble=await self._updates.written(record, message.payload.number))

    def _find(self, text: str) -> DeploymentRecord:
        return find_deployment(self._deployments, text)


def _told(version: Version) -> VersionInfo:
    return VersionInfo(
        number=version.number,
        made_at=rfc3339(version.made_ns),
        by=version.by,
        what=version.what,
        outcome=version.outcome,
        error=version.error,
        ended_at=rfc3339(version.ended_ns),
        copy_of=version.copy_of,
    )
