"""What a provider does for orchestrators: logs as its executor keeps them, GPUs shared by allocations."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dms.executor.detached import LogFile
from dms.executor.logs import STDOUT_LOG, read_log
from dms.node import payloads as p
from dms.orchestrator import messages as m
from dms.orchestrator.lifecycle.state import Phase
from dms.testing.actors import EPOCH_NS, key_of
from dms.testing.executor import Script, ScriptedExecutor
from dms.testing.hardware import FixedMachine
from dms.testing.nodes import FOUR_CORES, Cluster, SimulatedNode, ensemble, full_id
from dms.types.ids import EnsembleID
from dms.types.resources import CPU, GPU, RAM, Disk, Resources

LIMIT_BYTES = 4000
LINES = 2000
KEY = "n1.web"


class Job:
    """A service that writes more than is kept."""

    def __init__(self, alice: SimulatedNode, bob: SimulatedNode, id_: EnsembleID) -> None:
        self.alice, self.bob, self.id = alice, bob, id_
        found = bob.node.hosting.find(id_, KEY)
        assert found is not None
        self.path = found.results_dir / STDOUT_LOG
        self.clock_s = EPOCH_NS / 10**9
        self._file = LogFile(str(self.path), LIMIT_BYTES, clock=lambda: self.clock_s)

    def write(self, data: bytes) -> None:
        self._file.write(data)

    async def piece(self, offset: int = 0, max_bytes: int = 1000, since_ms: int = 0) -> p.LogsReply:
        request = p.LogsRequest(
            ensemble_id=self.id,
            allocation=KEY,
            stream="stdout",
            offset=offset,
            max_bytes=max_bytes,
            since_ms=since_ms,
        )
        return await self.alice.user.call("logs", request, p.LogsReply)

    async def read(self, offset: int = 0) -> tuple[bytes, list[tuple[int, int]]]:
        """All that there is, and the gaps in it."""
        told, gaps = b"", []
        while True:
            piece = await self.piece(offset)
            if piece.offset > offset:
                gaps.append((offset, piece.offset))
            told += piece.data
            if not piece.data:
                return told, gaps
            offset = piece.next_offset


async def start(cluster: Cluster) -> Job:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=FOUR_CORES)
    bob.executor.on("web-1", Script(duration_s=None))
    id_ = await alice.user.deploy(ensemble({"n1": {"web": "service"}}))
    await alice.wait_for(id_, Phase.RUNNING)
    await trio.sleep(1)
    return Job(alice, bob, id_)


def lines(first: int, count: int) -> bytes:
    return b"".join(b"line %06d\n" % number for number in range(first, first + count))


async def test_the_beginning_and_the_end_of_an_endless_output_are_told(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    job = await start(cluster)
    job.write(lines(0, LINES))
    told, gaps = await job.read()
    assert told.startswith(lines(0, LIMIT_BYTES // 12))
    assert told.endswith(lines(LINES - 20, 20))
    assert len(gaps) == 1
    assert (await job.piece()).total_size == read_log(job.path, 0, 0).end > 12 * LINES


async def test_a_tail_over_the_network_needs_one_question(autojump_clock: MockClock, cluster: Cluster) -> None:
    job = await start(cluster)
    job.write(lines(0, LINES))
    assert (await job.piece(-36)).data == lines(LINES - 3, 3)


async def test_whoever_follows_sees_what_comes_and_where_something_is_missing(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    job = await start(cluster)
    job.write(lines(0, LINES))
    place = (await job.piece(-1)).next_offset
    job.write(lines(LINES, 10))
    told, gaps = await job.read(place)
    assert (told, gaps) == (lines(LINES, 10), [])
    job.write(lines(0, LINES))
    told, gaps = await job.read(place)
    assert told.endswith(lines(LINES - 20, 20))
    assert gaps[0][0] == place


async def test_what_is_older_can_be_left_out(autojump_clock: MockClock, cluster: Cluster) -> None:
    job = await start(cluster)
    job.write(b"old\n")
    job.clock_s += 60
    job.write(b"new\n")
    since_ms = int((job.clock_s - 10) * 1000)
    assert (await job.piece(since_ms=since_ms - 50_000)).data == b"old\nnew\n"
    job.clock_s += 60
    job.write(b"newest\n")
    assert (await job.piece(since_ms=int((job.clock_s - 1) * 1000))).data == b"new\nnewest\n", "rather more than less"
    assert (await job.piece(since_ms=int(job.clock_s * 1000))).data == b"newest\n"
    assert (await job.piece(-4, since_ms=1000)).data == b"est\n"


@pytest.mark.parametrize("is_provider_there", [True, False])
async def test_places_in_a_log_stay_the_same_when_it_is_copied_at_the_end(
    autojump_clock: MockClock, cluster: Cluster, *, is_provider_there: bool
) -> None:
    job = await start(cluster)
    job.write(lines(0, LINES))
    before = await job.read()
    place = (await job.piece(-24)).offset
    assert (await job.alice.user.shutdown(job.id)).ok
    await job.alice.wait_until_settled(job.id)
    if not is_provider_there:
        await job.bob.kill()
    assert await job.read() == before
    assert (await job.piece(place)).data == lines(LINES - 2, 2)
    folder = Path(
        (await job.alice.user.call("logs", p.LogsRequest(ensemble_id=job.id, allocation=KEY), p.LogsReply)).written_to
    )
    assert sorted(path.stat().st_mode & 0o777 for path in folder.glob("stdout*.log")) == [0o600, 0o600]  # noqa: ASYNC240


async def test_without_a_stream_the_ends_of_both_come_in_one_answer(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    job = await start(cluster)
    job.write(lines(0, LINES))
    actor = job.alice.node.deployments.live(job.id).actor
    request = m.AllocationLogsRequest(allocation=full_id(job.id, KEY))
    provider = job.bob.node.root.handle
    reply = await actor.invoke(provider, m.ensemble_logs(job.id), request, m.AllocationLogsReply, timeout_s=5)
    assert reply.stdout.endswith(lines(LINES - 5, 5))


@pytest.mark.parametrize("is_allowed", [False, True])
async def test_privileged_containers_need_both_parties(
    autojump_clock: MockClock, cluster: Cluster, *, is_allowed: bool
) -> None:
    alice = await cluster.start("alice")
    engine = ScriptedExecutor(cluster.nursery, "docker")
    await cluster.start("bob", offers=FOUR_CORES, allow_privileged=is_allowed, executors={"docker": engine})

    async def deploy(name: str, **params: object) -> Phase:
        described = {"execution": {"type": "docker", "params": {"image": "alpine", **params}}}
        id_ = await alice.user.deploy(ensemble({"n1": {name: "task"}}, executor="docker", allocation=described))
        return (await alice.wait_for(id_, Phase.COMPLETED, Phase.FAILED)).phase

    assert await deploy("plain") is Phase.COMPLETED
    assert [request.allow_privileged for request in engine.started] == [is_allowed]
    assert await deploy("high", privileged=True) is (Phase.COMPLETED if is_allowed else Phase.FAILED)
    assert len(engine.started) == 1 + is_allowed


TWO_GPUS = Resources(
    cpu=CPU(cores=8.0, clock_speed=2e9),
    ram=RAM(size=16 << 30),
    disk=Disk(size=100 << 30),
    gpus=(GPU(index=0, uuid="ten", vram=10 << 30), GPU(index=1, uuid="eight", vram=8 << 30)),
)
OFFERED = Resources(
    cpu=CPU(cores=4.0),
    ram=RAM(size=8 << 30),
    disk=Disk(size=50 << 30),
    gpus=(GPU(index=0, uuid="ten", vram=9 << 30), GPU(index=1, uuid="eight", vram=7 << 30)),
)
SIZES = {"a": 3 << 30, "b": 7 << 30, "c": 6 << 30}
"""Fit only with a and c together on the larger one; one at a time, a would take the smaller."""


@pytest.mark.parametrize("order", list(permutations(SIZES)))
async def test_what_was_bid_for_can_be_committed_in_any_order(
    autojump_clock: MockClock, cluster: Cluster, order: tuple[str, ...]
) -> None:
    alice = await cluster.start("alice")
    bob = await cluster.start("bob", offers=OFFERED, machine=FixedMachine(TWO_GPUS))
    asker = await alice.node.root.create_child("asker", key_of("asker"))
    id_ = EnsembleID("e" * 64)
    parts = {name: Resources(cpu=CPU(cores=1.0), gpus=(GPU(vram=size),)) for name, size in SIZES.items()}
    node = m.NodeRequest(node_id="n1", resources=Resources(cpu=CPU(cores=3.0)), allocations=parts)
    request = m.BidRequest(id=id_, nonce="1", request=(m.VersionedNodeRequest(v1=node),))
    await asker.send(bob.node.root.handle, m.BID_REQUEST, request, reply_to=m.BID)
    await trio.sleep(1)
    for name in order:
        wanted = m.CommitResources(cpu=parts[name].cpu, gpus=parts[name].gpus)
        commit = m.CommitRequest(ensemble_id=id_, allocation_id=f"{id_}_n1.{name}", node_id="n1", resources=wanted)
        reply = await asker.invoke(bob.node.root.handle, m.COMMIT, commit, m.CommitReply, timeout_s=5)
        assert (reply.ok, reply.error) == (True, "")
    left = {gpu.uuid: gpu.vram for gpu in bob.node.resources.free().gpus}
    assert left == {"ten": 0, "eight": 0}
