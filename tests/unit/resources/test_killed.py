"""A manager that is killed at any moment leaves what it acknowledged, and at most one step more."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import trio
from tests.unit.resources.churn import MACHINE, NOW

from dms.resources.arithmetic import add, check, covers
from dms.resources.errors import ResourceError
from dms.resources.ledger import Ledger
from dms.resources.manager import ResourceManager
from dms.store import Store
from dms.testing.hardware import FixedMachine
from dms.types import gojson
from dms.types.ids import AllocationID
from dms.types.resources import Resources

REPOSITORY = Path(__file__).resolve().parents[3]
KILLS = 3
SEED = 20


def state(ledger: Ledger) -> object:
    return ledger.onboarded, dict(ledger.allocations), dict(ledger.commitments)


def applied(ledger: Ledger, step: list[Any]) -> Ledger:
    """The same step on the value; a refusal changes nothing."""
    _, what, name, text, expires_at = step
    allocation = AllocationID(name)
    try:
        if what == "commit":
            return ledger.commit(allocation, gojson.decode(text.encode(), Resources), expires_at, NOW)
        if what == "sweep":
            return ledger.sweep(NOW)
        if what == "allocate":
            return ledger.allocate(allocation, NOW)
        return ledger.release(allocation) if what == "release" else ledger.deallocate(allocation)
    except ResourceError:
        return ledger


async def stored(path: Path) -> Ledger:
    async with await Store.open(path) as store:
        manager = ResourceManager(store, FixedMachine(MACHINE), lambda: NOW)
        await manager.load()
        return Ledger(manager.onboarded, dict(manager.commitments), dict(manager.allocations))


def lives_until_killed(path: Path, seed: int, lines: int) -> list[list[Any]]:
    """What a process told until it was killed, which comes in the middle of whatever it did after ``lines`` lines."""
    command = [sys.executable, "-m", "tests.unit.resources.churn", str(path), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY) as child:
        assert child.stdout is not None
        told = []
        for line in child.stdout:
            told.append(line)
            if len(told) == lines:
                break
        child.kill()
        told += child.stdout.readlines()
        assert child.stderr is not None
        complaints = child.stderr.read().decode()
    assert child.returncode == -9, complaints
    return [json.loads(line) for line in told if line.endswith(b"\n")]


def test_what_was_acknowledged_outlives_a_killed_process_and_nothing_else_does(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    path = tmp_path / "dms.db"
    ledger = Ledger(MACHINE)
    steps = 0
    for kill in range(KILLS):
        told = lives_until_killed(path, SEED + kill, rng.randrange(40, 160))
        assert told[0] == ["ready"]
        begun: list[Any] | None = None
        for line in told[1:]:
            if line[0] == "begin":
                begun = line
                continue
            assert begun is not None
            after = applied(ledger, begun)
            assert (line[0] == "done") or after == ledger
            ledger, begun, steps = after, None, steps + 1
        found = trio.run(stored, path)
        candidates = [ledger] if begun is None else [ledger, applied(ledger, begun)]
        assert state(found) in [state(candidate) for candidate in candidates]
        taken = add(found.allocated(), found.committed())
        check(found.free())
        assert covers(MACHINE, taken)
        ledger = found
    assert steps > KILLS * 10
