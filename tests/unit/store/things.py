"""What the tests of repositories store: a member of every kind."""

from enum import Enum

import msgspec

from dms.types.gojson import Wire
from dms.types.resources import CPU


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Thing(Wire):
    name: str
    size: int = 0
    weight: float = 0.0
    good: bool = False
    colour: Colour = Colour.RED
    owner: str | None = None
    cpu: CPU = msgspec.field(default_factory=CPU)
    tags: tuple[str, ...] = ()
    renamed: str = msgspec.field(default="", name="otherName")


THINGS = (
    Thing(name="a", size=3, weight=1.5, cpu=CPU(cores=2.0, model="x")),
    Thing(name="b", size=1, good=True, owner="me", renamed="r"),
    Thing(name="c", colour=Colour.BLUE, tags=("t",), cpu=CPU(cores=4.0)),
    Thing(name="Bb", size=2, weight=2.5),
)
