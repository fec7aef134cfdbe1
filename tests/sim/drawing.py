"""From a seed to a plan."""

from __future__ import annotations

import itertools
import random
from typing import Final, TypeVar

from msgspec.structs import replace
from tests.sim.plan import (
    ASKS,
    CITIES,
    FAR_S,
    FAULTS,
    HORIZON_S,
    MOVES,
    PRICE,
    Ask,
    Dependency,
    Edge,
    Fault,
    JobPlan,
    NodePlan,
    PartPlan,
    Plan,
)

PUBLIC_PORTS: Final = (20_000, 20_001)

T = TypeVar("T")


def draw(seed: int) -> Plan:
    """The plan of a seed. Many runs are mostly peaceful: bugs hide behind a single fault as well as behind ten."""
    rng = random.Random(f"plan/{seed}")
    is_skewed, is_slow, is_noisy = rng.random() < 0.3, rng.random() < 0.5, rng.random() < 0.4
    nodes = _nodes(rng, is_skewed=is_skewed, is_slow=is_slow)
    delay_s = rng.choice((0.001, 0.01, 0.05, 0.2))
    jobs = tuple(_job(rng, f"j{number}", nodes, delay_s) for number in range(rng.choice((1, 1, 1, 2, 2, 3))))
    faults = [_fault(rng, nodes) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4, 5, 8)))]
    if rng.random() < 0.08:
        lost = rng.choice([node.name for node in nodes if not node.cores])
        faults.append(Fault(at_s=_moment(rng), kind="vanish", nodes=(lost,)))
    pairs = list(itertools.combinations([node.name for node in nodes if node.cores], 2))
    nodes, jobs = _spread(random.Random(f"places/{seed}"), nodes, jobs, delay_s)
    links = random.Random(f"links/{seed}")
    faults = [_one_way(links, fault) for fault in faults]
    return Plan(
        seed=seed,
        nodes=nodes,
        jobs=jobs,
        faults=tuple(sorted(faults, key=lambda fault: fault.at_s)),
        far=tuple(pair for pair in pairs if rng.random() < 0.4) if any(job.edges for job in jobs) else (),
        delay_s=delay_s,
        jitter_s=rng.choice((0.0, 0.05, 0.5)) if is_noisy else 0.0,
        loss=rng.choice((0.0, 0.02, 0.1)) if is_noisy else 0.0,
        duplication=rng.choice((0.0, 0.1, 0.3)) if is_noisy else 0.0,
        reordering=links.choice((0.0, 0.05, 0.2)) if is_noisy else 0.0,
        has_meshes=links.random() < 0.15,
    )


def _one_way(rng: random.Random, fault: Fault) -> Fault:
    """Half of the cuts lose what one side sends, and only that."""
    return replace(fault, amount=1.0) if fault.kind == "cut" and rng.random() < 0.5 else fault


def _spread(
    rng: random.Random, nodes: tuple[NodePlan, ...], jobs: tuple[JobPlan, ...], delay_s: float
) -> tuple[tuple[NodePlan, ...], tuple[JobPlan, ...]]:
    """In half of the runs the machines are spread over the earth; some say that they are elsewhere, and some edges are
    too short for oceans. With chances of its own, so that all else of a seed stays as it is.
    """
    if rng.random() < 0.5:
        return nodes, jobs
    near_ms = max(45, int(2000 * delay_s) + 1)
    spread = []
    for node in nodes:
        city = rng.choice(list(CITIES))
        spread.append(replace(node, city=city, says=rng.choice(list(CITIES)) if rng.random() < 0.15 else ""))
    near = [replace(job, edges=tuple(replace(e, rtt_ms=near_ms) for e in job.edges)) for job in jobs]
    return tuple(spread), tuple(shorter if rng.random() < 0.5 else job for job, shorter in zip(jobs, near, strict=True))


def _nodes(rng: random.Random, *, is_skewed: bool, is_slow: bool) -> tuple[NodePlan, ...]:
    orchestrators, providers = rng.choice((1, 1, 2)), rng.choice((1, 2, 2, 3, 3, 4))

    def node(name: str, cores: float) -> NodePlan:
        is_provider = cores > 0
        return NodePlan(
            name=name,
            cores=cores,
            ahead_s=round(rng.uniform(-2, 2), 3) if is_skewed else 0.0,
            disk_pause_s=rng.choice((0.0, 0.002, 0.02, 0.3)) if is_slow else 0.0,
            byzantine=rng.choice(MOVES) if is_provider and rng.random() < 0.15 else "",
            start_fails=is_provider and rng.random() < 0.07,
            price=2 * PRICE if is_provider and rng.random() < 0.2 else PRICE / 2,
        )

    return (
        *(node(f"o{number}", 0.0) for number in range(orchestrators)),
        *(node(f"p{number}", rng.choice((2.0, 4.0, 6.0))) for number in range(providers)),
    )


def _job(rng: random.Random, name: str, nodes: tuple[NodePlan, ...], delay_s: float) -> JobPlan:
    at_s = round(rng.uniform(0, HORIZON_S / 3), 3)
    is_scheduled = rng.random() < 0.1
    members: dict[str, tuple[PartPlan, ...]] = {}
    pins = {}
    is_supervised = rng.random() < 0.5
    for number in range(1 if is_scheduled else rng.choice((1, 1, 2, 3))):
        node = f"n{number}"
        members[node] = tuple(
            replace(
                _part(rng, f"{name}{node}{part}", is_supervised=is_supervised, is_short=is_scheduled),
                public=rng.choice(PUBLIC_PORTS) if part == 0 and rng.random() < 0.15 else 0,
            )
            for part in range(rng.choice((1, 1, 2)))
        )
        if rng.random() < 0.1:
            pins[node] = rng.choice([n.name for n in nodes if n.cores])
    if rng.random() < 0.25:
        members = _ordered(rng, members)
    counts = {node: rng.choice((1, 2, 3)) for node in members if rng.random() < 0.1 and node not in pins}
    return JobPlan(
        name=name,
        at_s=at_s,
        owner=rng.choice([n.name for n in nodes if not n.cores]),
        patience_s=rng.choice((75.0, 90.0, 135.0)),
        nodes=members,
        pins=pins,
        counts=counts,
        shutdown_at_s=round(at_s + rng.uniform(0.01, HORIZON_S), 3)
        if rng.random() < 0.3 and not is_scheduled
        else None,
        node_recovery=rng.choice(("", "restart", "redeploy", "redeploy")) if is_supervised else "",
        redundancy=rng.choice((0, 0, 0, 1, 2)) if is_supervised else 0,
        supervisor=rng.choice(("", "", "OneForOne", "AllForOne", "RestForOne")) if is_supervised else "",
        escalation=rng.choice(("", "", "", "redeploy", "teardown")) if is_supervised else "",
        edges=_edges(rng, tuple(members), delay_s) if rng.random() < 0.2 else (),
        price=PRICE if rng.random() < 0.15 else 0.0,
        queue_s=rng.choice((30.0, 120.0, 240.0)) if rng.random() < 0.2 and not is_scheduled else 0.0,
        run_for_s=rng.choice((1.0, 60.0, 180.0)) if rng.random() < 0.15 else 0.0,
        asks=_asks(rng, at_s, members) if rng.random() < 0.4 and not is_scheduled else (),
        cron="*/2 * * * *" if is_scheduled else "",
        overlap=rng.choice(("skip", "allow", "replace")) if is_scheduled else "skip",
        missed=rng.choice(("once", "skip")) if is_scheduled else "once",
    )


def _part(rng: random.Random, name: str, *, is_supervised: bool, is_short: bool) -> PartPlan:
    is_service = rng.random() < 0.5 and not is_short
    ends_s = rng.choice((None, None, None, 30.0)) if is_service else rng.choice((0.0, 1.0, 20.0, 90.0))
    return PartPlan(
        name=name,
        type="service" if is_service else "task",
        cores=rng.choice((0.5, 1.0, 2.0)),
        duration_s=ends_s,
        exit_code=rng.choice((0, 0, 0, 0, 1)),
        start_takes_s=rng.choice((0.0, 0.0, 0.0, 1.0, 8.0)),
        cancel_takes_s=rng.choice((0.0, 0.0, 1.0, 20.0)),
        ports=rng.choice((0, 0, 1, 2)),
        recovery=rng.choice(("", "stay_down", "one_for_one", "one_for_all", "rest_for_one")) if is_supervised else "",
        crashes=rng.choice((0, 0, 0, 1, 2, 5)) if is_supervised else 0,
        health=rng.choice(("", "", "good", "bad")) if is_supervised and is_service else "",
        update_fails=rng.random() < 0.25,
    )


def _ordered(rng: random.Random, nodes: dict[str, tuple[PartPlan, ...]]) -> dict[str, tuple[PartPlan, ...]]:
    """Some parts start after some of those before them."""
    found: list[PartPlan] = []
    out = {}
    for node, parts in nodes.items():
        later = []
        for part in parts:
            before = rng.sample(found, min(len(found), rng.choice((0, 1, 1, 2))))
            later.append(replace(part, after=tuple(_dependency(rng, other) for other in before)))
            found.append(later[-1])
        out[node] = tuple(later)
    return out


def _dependency(rng: random.Random, other: PartPlan) -> Dependency:
    conditions = ["started"]
    if other.health:
        conditions.append("healthy")
    if other.type == "task":
        conditions.append("completed_successfully")
    return Dependency(part=other.name, condition=rng.choice(conditions))


def _edges(rng: random.Random, nodes: tuple[str, ...], delay_s: float) -> tuple[Edge, ...]:
    pairs = list(itertools.combinations(nodes, 2))
    rtt_ms = int(1000 * (2 * delay_s + FAR_S))
    return tuple(Edge(s=s, t=t, rtt_ms=rtt_ms) for s, t in pairs if rng.random() < 0.7)


def _asks(rng: random.Random, at_s: float, nodes: dict[str, tuple[PartPlan, ...]]) -> tuple[Ask, ...]:
    names = [part.name for parts in nodes.values() for part in parts]
    return tuple(sorted((_ask(rng, at_s, names) for _ in range(rng.choice((1, 2, 3)))), key=lambda ask: ask.at_s))


def _ask(rng: random.Random, at_s: float, names: list[str]) -> Ask:
    kind = rng.choice((*ASKS, "update", "update"))
    amounts = {"update": (0.25, 0.5, 1.5, 2.5), "scale": (1.0, 2.0, 4.0)}
    return Ask(
        at_s=round(at_s + rng.uniform(5.0, HORIZON_S), 3),
        kind=kind,
        part=rng.choice(names),
        amount=rng.choice(amounts.get(kind, (0.0,))),
    )


def _moment(rng: random.Random) -> float:
    """Early ones hit deployments on their way, in which more can go wrong."""
    return round(rng.uniform(0, HORIZON_S / 3) if rng.random() < 0.6 else rng.uniform(0, HORIZON_S), 3)


def _fault(rng: random.Random, nodes: tuple[NodePlan, ...]) -> Fault:
    names = [node.name for node in nodes]
    kinds = [kind for kind in FAULTS if kind != "vanish"]
    kind = rng.choice((*kinds, "crash", "crash_at_step", "crash_at_step"))
    at_s = _moment(rng)
    chosen: tuple[str, ...] = (rng.choice(names),)
    for_s, amount = rng.choice((0.0, 1.0, 15.0, 60.0)), 0.0
    match kind:
        case "crash_at_step":
            amount = float(int(rng.expovariate(1 / 150)))
        case "partition":
            chosen = tuple(sorted(rng.sample(names, rng.randint(1, len(names) - 1))))
            for_s = rng.choice((3.0, 20.0, 60.0, 150.0))
        case "cut":
            chosen = tuple(sorted(rng.sample(names, 2)))
            for_s = rng.choice((3.0, 20.0, 60.0, 150.0))
        case "loss":
            amount, for_s, chosen = rng.choice((0.2, 0.5, 0.9)), rng.choice((5.0, 30.0)), ()
        case "slow_disk":
            amount = rng.choice((0.5, 3.0))
        case "clock_jump":
            amount, for_s = rng.choice((-3600.0, -30.0, -2.0, 2.0, 30.0, 3600.0)), rng.choice((10.0, 60.0))
        case "oom":
            chosen = (rng.choice([node.name for node in nodes if node.cores]),)
        case _:
            pass
    return Fault(at_s=at_s, kind=kind, nodes=chosen, for_s=for_s, amount=amount)
