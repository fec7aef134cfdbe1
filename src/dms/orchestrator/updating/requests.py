"""What users ask of a running deployment: become another version, grow or shrink, go back to an earlier version."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from dms.ensemble.config import EnsembleConfig
from dms.ensemble.groups import MAX_COUNT, expanded
from dms.orchestrator.deployment import Deployment
from dms.orchestrator.deployments import RESERVE_S, Deployments, check_deployable
from dms.orchestrator.errors import DeploymentTooShort, InvalidDeployment, UpdateRefused, VersionNotFound
from dms.orchestrator.journal import DeploymentRecord, Journal
from dms.orchestrator.lifecycle.events import UpdateRequested
from dms.orchestrator.scheduling.terms import MAX_QUEUE_S
from dms.orchestrator.updating.moves import describe, moves_between, problems_between
from dms.orchestrator.updating.state import Moves, Outcome, UpdateTerms
from dms.orchestrator.updating.versions import check_updatable, history_of, version_of
from dms.types.errors import NotFound
from dms.types.ids import EnsembleID

MIN_UPDATE_S = 118.0
MAX_HEALTHY_S = 86_400.0
MAX_BATCH = 50_000
NS_PER_S = 10**9


@dataclass(frozen=True, slots=True)
class Wish:
    """How a user wants an update to go, beside what it is about.

    ``expiry_ns`` is when the user's patience ends; ``expected``: refuse if another version than this is in force, 0: do
    not; ``request``: the same request again, by this name, is no second one.
    """

    by: str
    expiry_ns: int
    batch: int = 0
    healthy_for_s: float = 5.0
    queue_for_s: float = 0.0
    may_stop: bool = True
    expected: int = 0
    request: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """The version that was asked for, and what it changes; ``is_new``: something does change."""

    version: int
    what: str
    moves: Moves
    is_new: bool = True


class Updates:
    """Takes the wishes of users for the deployments of a node."""

    def __init__(self, deployments: Deployments, journal: Journal, *, clock_ns: Callable[[], int]) -> None:
        self._deployments = deployments
        self._journal = journal
        self._clock_ns = clock_ns

    async def update(self, ensemble: EnsembleID, written: EnsembleConfig, wish: Wish, *, copy_of: int = 0) -> Asked:
        """Become that version; returns once it is on disk, and is about to be.

        :raises InvalidDeployment: it could not be deployed, with the first reason.
        :raises DeploymentTooShort: less than 118 s were given.
        :raises UpdateRefused: what runs cannot become that, or is becoming something else.
        """
        deployment = self._deployments.live(ensemble)
        state = deployment.state
        known = next((v for v in state.versions if wish.request and v.request == wish.request), None)
        if known is not None:
            return Asked(known.number, known.what, Moves())
        terms, deadline_ns = self._terms(wish)
        check_updatable(state)
        moves = self.changes(deployment, written, wish.expected)
        what = describe(moves)
        if not (moves.added or moves.replaced or moves.removed or moves.settings) and deployment.base == expanded(
            written
        ):
            return Asked(state.version, "nothing", moves, is_new=False)
        event = UpdateRequested(
            at_ns=self._clock_ns(),
            deadline_ns=deadline_ns,
            moves=moves,
            terms=terms,
            by=wish.by,
            request=wish.request or secrets.token_hex(12),
            what=what,
            copy_of=copy_of,
            base=state.version,
        )
        made = await deployment.orders.update(event, written)
        return Asked(made.number, made.what, moves)

    def changes(self, deployment: Deployment, written: EnsembleConfig, expected: int = 0) -> Moves:
        """What would become of the nodes.

        :raises InvalidDeployment: it could not be deployed, with the first reason.
        :raises UpdateRefused: what runs cannot become that.
        """
        check_deployable(written)
        state = deployment.state
        if expected and state.version != expected:
            hint = "look at what changed: nunet versions ID"
            raise UpdateRefused(f"version {state.version} is in force, not {expected}", hint=hint)
        config = expanded(written)
        problems = problems_between(deployment.base, config)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise UpdateRefused(f"{problems[0].path}: {problems[0].reason}{more}", hint=problems[0].hint)
        return moves_between(deployment.base, config, {node: bid.peer for node, bid in state.assignment.items()})

    async def scaled(self, ensemble: EnsembleID, counts: Mapping[str, int]) -> EnsembleConfig:
        """The ensemble as it is but for the size of some groups.

        :raises NotFound: there is no such group; the hint lists those that there are.
        :raises InvalidDeployment: a size that no group can have.
        """
        written = await self._journal.written(ensemble)
        nodes = dict(written.v1.nodes)
        for name, count in counts.items():
            if name not in nodes or not nodes[name].count:
                groups = ", ".join(name for name, node in nodes.items() if node.count)
                hint = (
                    f"its groups are {groups}"
                    if groups
                    else "none of its nodes has a count; update it with one that has"
                )
                raise NotFound(f"no group of this deployment is called {name}", hint=hint)
            if not 1 <= count <= MAX_COUNT:
                raise InvalidDeployment(f"a group has 1 to {MAX_COUNT} members", hint="to have none, update without it")
            nodes[name] = msgspec.structs.replace(nodes[name], count=count)
        return EnsembleConfig(v1=msgspec.structs.replace(written.v1, nodes=nodes))

    async def earlier(self, ensemble: EnsembleID, number: int = 0) -> tuple[EnsembleConfig, int]:
        """An earlier version and its number; without one, the one that was in force before the present.

        :raises VersionNotFound: there is none, or it is not kept any more.
        """
        state = self._deployments.get(ensemble).state
        if not number:
            former = [v for v in history_of(state) if v.outcome == Outcome.SUPERSEDED.value]
            if not former:
                raise VersionNotFound("no version of this deployment was in force before this one")
            number = max(former, key=lambda version: version.ended_ns).number
        if version_of(state, number) is None:
            raise VersionNotFound(f"version {number} of this deployment is not known")
        if number == state.version:
            raise UpdateRefused(f"version {number} is in force already")
        return await self._journal.written(ensemble, number), number

    async def written(self, record: DeploymentRecord, number: int) -> EnsembleConfig:
        """A version as its user wrote it.

        :raises VersionNotFound: there is none.
        """
        if version_of(record.state, number) is None:
            raise VersionNotFound(f"version {number} of this deployment is not known")
        return await self._journal.written(record.id, number if record.state.versions else 0)

    def _terms(self, wish: Wish) -> tuple[UpdateTerms, int]:
        now_ns = self._clock_ns()
        if wish.expiry_ns - now_ns < MIN_UPDATE_S * NS_PER_S:
            raise DeploymentTooShort(f"an update needs {MIN_UPDATE_S:g} s at least")
        for name, value, most in (
            ("batch", wish.batch, MAX_BATCH),
            ("time to be healthy", wish.healthy_for_s, MAX_HEALTHY_S),
            ("queue timeout", wish.queue_for_s, MAX_QUEUE_S),
        ):
            if not 0 <= value <= most:
                raise InvalidDeployment(f"the {name} must be between 0 and {most:g}")
        queue_for_ns = int(wish.queue_for_s * NS_PER_S)
        terms = UpdateTerms(
            batch=wish.batch,
            healthy_for_ns=int(wish.healthy_for_s * NS_PER_S),
            queue_until_ns=now_ns + queue_for_ns if queue_for_ns else 0,
            may_stop=wish.may_stop,
        )
        return terms, wish.expiry_ns + queue_for_ns - int(RESERVE_S * NS_PER_S)
