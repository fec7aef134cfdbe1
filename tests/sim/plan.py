"""What happens in one simulated run: drawn from a seed, plain data, so that it can be printed, kept and made smaller."""

from __future__ import annotations

import random
from typing import Final

import msgspec

HORIZON_S: Final = 240.0
"""Jobs and faults begin within so many seconds; what follows is calm."""
MOVES: Final = ("refuse_commit", "refuse_allocate", "silent_commit", "silent_allocate", "lie", "replay")
FAULTS: Final = ("crash", "crash_at_step", "reboot", "partition", "cut", "loss", "slow_disk", "clock_jump", "oom")


class NodePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One machine. ``cores`` are what it offers, 0 for one that only orchestrates; ``byzantine`` is one of :data:`MOVES`."""

    name: str
    cores: float = 0.0
    ahead_s: float = 0.0
    disk_pause_s: float = 0.0
    byzantine: str = ""
    start_fails: bool = False
    """Its executor never manages to start anything."""


class PartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One allocation and what its workload does."""

    name: str
    type: str
    cores: float = 1.0
    duration_s: float | None = None
    exit_code: int = 0
    start_takes_s: float = 0.0
    cancel_takes_s: float = 0.0
    ports: int = 0
    recovery: str = ""
    """Its ``failure_recovery``."""
    crashes: int = 0
    """So many executions in a row fail after a while; the next ones do what the rest says."""
    health: str = ""
    """Whether it has a check, and what that says: ``good``, or ``bad`` on its first execution."""


class JobPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment: ``nodes`` are the parts of each ensemble node, ``pins`` the machine that a node must be on."""

    name: str
    at_s: float
    owner: str
    patience_s: float
    nodes: dict[str, tuple[PartPlan, ...]]
    pins: dict[str, str] = {}
    shutdown_at_s: float | None = None
    node_recovery: str = ""
    """``failure_recovery`` of its nodes."""
    redundancy: int = 0
    """Standbys of its first node."""
    supervisor: str = ""
    """The strategy of a supervisor over all its services."""
    escalation: str = ""

    @property
    def may_wander(self) -> bool:
        """Whether what fails may be placed elsewhere, or deployed anew."""
        return bool(self.redundancy or self.escalation or self.node_recovery == "redeploy")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that goes wrong at ``at_s`` for ``for_s``; ``amount`` is what the kind makes of it."""

    at_s: float
    kind: str
    nodes: tuple[str, ...] = ()
    for_s: float = 0.0
    amount: float = 0.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. The seed still decides what is drawn while it runs: delays, losses, the order of tasks."""

    seed: int
    nodes: tuple[NodePlan, ...]
    jobs: tuple[JobPlan, ...]
    faults: tuple[Fault, ...] = ()
    delay_s: float = 0.01
    jitter_s: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0


def draw(seed: int) -> Plan:
    """The plan of a seed. Many runs are mostly peaceful: bugs hide behind a single fault as well as behind ten."""
    rng = random.Random(f"plan/{seed}")
    is_skewed, is_slow, is_noisy = rng.random() < 0.3, rng.random() < 0.5, rng.random() < 0.4
    nodes = _nodes(rng, is_skewed=is_skewed, is_slow=is_slow)
    jobs = tuple(_job(rng, f"j{number}", nodes) for number in range(rng.choice((1, 1, 1, 2, 2, 3))))
    faults = tuple(_fault(rng, nodes) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4, 5, 8))))
    return Plan(
        seed=seed,
        nodes=nodes,
        jobs=jobs,
        faults=tuple(sorted(faults, key=lambda fault: fault.at_s)),
        delay_s=rng.choice((0.001, 0.01, 0.05, 0.2)),
        jitter_s=rng.choice((0.0, 0.05, 0.5)) if is_noisy else 0.0,
        loss=rng.choice((0.0, 0.02, 0.1)) if is_noisy else 0.0,
        duplication=rng.choice((0.0, 0.1, 0.3)) if is_noisy else 0.0,
    )


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
        )

    return (
        *(node(f"o{number}", 0.0) for number in range(orchestrators)),
        *(node(f"p{number}", rng.choice((2.0, 4.0, 6.0))) for number in range(providers)),
    )


def _job(rng: random.Random, name: str, nodes: tuple[NodePlan, ...]) -> JobPlan:
    at_s = round(rng.uniform(0, HORIZON_S / 3), 3)
    members: dict[str, tuple[PartPlan, ...]] = {}
    pins = {}
    is_supervised = rng.random() < 0.5
    for number in range(rng.choice((1, 1, 2, 3))):
        node = f"n{number}"
        members[node] = tuple(
            _part(rng, f"{name}{node}{part}", is_supervised=is_supervised) for part in range(rng.choice((1, 1, 2)))
        )
        if rng.random() < 0.1:
            pins[node] = rng.choice([n.name for n in nodes if n.cores])
    return JobPlan(
        name=name,
        at_s=at_s,
        owner=rng.choice([n.name for n in nodes if not n.cores]),
        patience_s=rng.choice((75.0, 90.0, 135.0)),
        nodes=members,
        pins=pins,
        shutdown_at_s=round(at_s + rng.uniform(0.01, HORIZON_S), 3) if rng.random() < 0.3 else None,
        node_recovery=rng.choice(("", "restart", "redeploy", "redeploy")) if is_supervised else "",
        redundancy=rng.choice((0, 0, 0, 1, 2)) if is_supervised else 0,
        supervisor=rng.choice(("", "", "OneForOne", "AllForOne", "RestForOne")) if is_supervised else "",
        escalation=rng.choice(("", "", "", "redeploy", "teardown")) if is_supervised else "",
    )


def _part(rng: random.Random, name: str, *, is_supervised: bool) -> PartPlan:
    is_service = rng.random() < 0.5
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
    )


def _fault(rng: random.Random, nodes: tuple[NodePlan, ...]) -> Fault:
    names = [node.name for node in nodes]
    kind = rng.choice((*FAULTS, "crash", "crash_at_step", "crash_at_step"))
    # early ones hit deployments on their way, in which more can go wrong
    at_s = round(rng.uniform(0, HORIZON_S / 3) if rng.random() < 0.6 else rng.uniform(0, HORIZON_S), 3)
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
