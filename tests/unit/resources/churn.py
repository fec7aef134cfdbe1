"""Commits, allocates and gives back at random until it is killed, telling each step before and after.

python -m tests.unit.resources.churn DATABASE SEED
"""

import json
import random
import sys
from pathlib import Path

import trio

from dms.resources.errors import ResourceError
from dms.resources.manager import ResourceManager
from dms.store import Store
from dms.testing.hardware import FixedMachine
from dms.types import gojson
from dms.types.ids import AllocationID
from dms.types.resources import CPU, GPU, RAM, Resources

GIB = 1 << 30
MACHINE = Resources(
    cpu=CPU(cores=8),
    ram=RAM(size=64 * GIB),
    gpus=(
        GPU(index=0, uuid="first", vendor="NVIDIA", vram=10 * GIB),
        GPU(index=1, uuid="second", vendor="AMD/ATI", vram=16 * GIB),
    ),
)
NOW = 1000.0
EXPIRIES = (NOW, NOW + 1, NOW + 10_000)
"""The first is over already: the next commitment takes it back."""


def draw(rng: random.Random) -> tuple[str, str, Resources, float]:
    """One step: what is done, with which allocation, how much is wanted, until when."""
    what = rng.choice(("commit", "commit", "commit", "allocate", "allocate", "release", "deallocate", "sweep"))
    gpus = tuple(
        GPU(vendor=rng.choice(("", "NVIDIA", "AMD/ATI")), vram=rng.randrange(7) * GIB) for _ in range(rng.randrange(3))
    )
    wanted = Resources(cpu=CPU(cores=rng.randrange(200) / 100), ram=RAM(size=rng.randrange(8 * GIB)), gpus=gpus)
    return what, rng.choice("abcdefgh"), wanted, rng.choice(EXPIRIES)


async def churn(path: Path, seed: int) -> None:
    """Go on for ever."""
    rng = random.Random(seed)
    async with await Store.open(path) as store:
        manager = ResourceManager(store, FixedMachine(MACHINE), lambda: NOW)
        await manager.load()
        if manager.onboarded is None:
            await manager.update_onboarded(MACHINE)
        tell("ready")
        while True:
            what, name, wanted, expires_at = draw(rng)
            allocation = AllocationID(name)
            tell("begin", what, name, gojson.encode(wanted).decode(), expires_at)
            try:
                if what == "commit":
                    await manager.commit(allocation, wanted, expires_at)
                elif what == "sweep":
                    await manager.sweep_expired()
                else:
                    await getattr(manager, what)(allocation)
            except ResourceError as exc:
                tell("refused", exc.code)
            else:
                tell("done")


def tell(*words: object) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    trio.run(churn, Path(sys.argv[1]), int(sys.argv[2]))
