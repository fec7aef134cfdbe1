from collections.abc import AsyncIterator
from enum import Enum
from itertools import count

import msgspec
import pytest
from sqlalchemy import text

from dms.store import EntityRepository, InvalidData, Query, RecordNotFound, Repository, Session, Store
from dms.store.errors import BadRecord
from dms.store.query import Condition, Operator, eq, gt, gte, is_in, like, lt, lte, ne
from dms.store.schema import onboarding_config, reservations
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


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    seconds = count(1000)
    async with await Store.open(None, now=lambda: float(next(seconds))) as store:
        yield store


@pytest.fixture
async def things(store: Store) -> Repository[Thing]:
    repository = Repository(store, reservations, Thing)
    for thing in THINGS:
        await repository.create(thing, f"id-{thing.name}")
    return repository


async def names(repository: Repository[Thing], query: Query) -> str:
    return " ".join(record.value.name for record in await repository.find_all(query))


async def test_create_get_update_delete(store: Store) -> None:
    repository = Repository(store, reservations, Thing)
    made = await repository.create(THINGS[0])
    assert len(made.id) == 36
    assert made.created_at_ns == made.updated_at_ns == 1000 * 10**9
    assert await repository.get(made.id) == made
    changed = await repository.update(made.id, THINGS[1])
    assert (changed.id, changed.value, changed.created_at_ns) == (made.id, THINGS[1], made.created_at_ns)
    assert changed.updated_at_ns > made.updated_at_ns
    await repository.delete(made.id)
    for missing in (repository.get(made.id), repository.delete(made.id), repository.update(made.id, THINGS[0])):
        with pytest.raises(RecordNotFound, match=r"^record not found$"):
            await missing
    await repository.create(THINGS[0], made.id)


async def test_put_creates_and_replaces(store: Store) -> None:
    repository = Repository(store, reservations, Thing)
    await repository.put("k", THINGS[0])
    await repository.put("k", THINGS[1])
    assert [(r.id, r.value) for r in await repository.find_all()] == [("k", THINGS[1])]


async def test_a_hidden_record_is_gone_for_readers_and_its_id_stays_taken(things: Repository[Thing]) -> None:
    await things.hide("id-b")
    assert await names(things, Query()) == "a c Bb"
    assert await things.count() == 3
    with pytest.raises(RecordNotFound):
        await things.get("id-b")
    with pytest.raises(RecordNotFound):
        await things.find(Query().where(eq("name", "b")))
    with pytest.raises(RecordNotFound):
        await things.hide("id-b")
    with pytest.raises(RecordNotFound):
        await things.delete("id-b")
    with pytest.raises(InvalidData, match="there is a record id-b already"):
        await things.create(THINGS[1], "id-b")


async def test_bad_ids_and_values_are_refused(store: Store) -> None:
    repository = Repository(store, reservations, Thing)
    for bad in ("", "x" * 201):
        with pytest.raises(InvalidData, match="1 to 200"):
            await repository.create(THINGS[0], bad)
    with pytest.raises(InvalidData, match="a CPU is not a Thing"):
        await repository.create(CPU(), "x")  # type: ignore[arg-type]
    with pytest.raises(InvalidData):
        await repository.create(Thing(name="x", weight=float("nan")))
    assert await repository.count() == 0


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (eq("name", "a"), "a"),
        (eq("size", 0), "c"),  # left out of the JSON for being empty
        (eq("weight", 1.5), "a"),
        (eq("weight", 0), "b c"),
        (eq("good", True), "b"),
        (eq("good", False), "a c Bb"),
        (eq("colour", "red"), "a b Bb"),
        (eq("colour", "blue"), "c"),
        (eq("owner", "me"), "b"),
        (eq("owner", None), "a c Bb"),
        (ne("owner", None), "b"),
        (ne("owner", "me"), "a c Bb"),
        (ne("size", 3), "b c Bb"),
        (gt("size", 1), "a Bb"),
        (gte("size", 1), "a b Bb"),
        (lt("size", 1), "c"),
        (lte("size", 1), "b c"),
        (gt("weight", 1), "a Bb"),
        (is_in("name", "a", "c", "z"), "a c"),
        (is_in("name"), ""),
        (like("name", "b%"), "b Bb"),
        (like("name", "_b"), "Bb"),
        (like("name", "%'; DROP TABLE reservations; --"), ""),
        (eq("cpu.cores", 4), "c"),
        (eq("cpu.cores", 0), "b Bb"),
        (eq("cpu.model", "x"), "a"),
        (eq("otherName", "r"), "b"),
        (eq("renamed", "r"), "b"),
        (eq("id", "id-c"), "c"),
        (gt("created_at", 1001 * 10**9), "c Bb"),
    ],
)
async def test_every_operator(things: Repository[Thing], condition: Condition, expected: str) -> None:
    assert await names(things, Query().where(condition)) == expected


@pytest.mark.parametrize(
    "condition",
    [
        eq("nothing", 1),
        eq("cpu", 1),
        eq("tags", "t"),
        eq("name.x", "a"),
        eq("cpu.nothing", 1),
        eq("", "a"),
        eq("deleted_at", 0),
        eq("name", 1),
        eq("size", "1"),
        eq("size", True),
        eq("good", 1),
        eq("weight", "1.5"),
        is_in("name", "a", 1),
        is_in("size", *range(1001)),
        Condition("name", Operator.LIKE, None),
    ],
)
async def test_a_condition_that_cannot_be_meant_is_refused(things: Repository[Thing], condition: Condition) -> None:
    with pytest.raises(InvalidData, match=r"^invalid data given"):
        await things.find_all(Query().where(condition))


async def test_order_limit_and_offset_work_together(things: Repository[Thing]) -> None:
    assert await names(things, Query()) == "a b c Bb"
    assert await names(things, Query(sort_by="size")) == "c b Bb a"
    assert await names(things, Query(sort_by="-size")) == "a Bb b c"
    assert await names(things, Query(sort_by="-otherName")) == "b a c Bb"
    assert await names(things, Query(sort_by="-created_at", limit=2)) == "Bb c"
    assert await names(things, Query(sort_by="size", limit=2, offset=1)) == "b Bb"
    assert await names(things, Query(offset=3)) == "Bb"
    assert await names(things, Query(limit=2, offset=4)) == ""
    assert (await things.find(Query(sort_by="-size"))).value.name == "a"
    assert await things.count(Query().where(gt("size", 1))) == 2
    for bad in (Query(limit=-1), Query(offset=-1), Query(sort_by="nothing")):
        with pytest.raises(InvalidData):
            await things.find_all(bad)


async def test_an_example_matches_what_it_fills_in(things: Repository[Thing]) -> None:
    assert await names(things, Query(instance=Thing(name="b"))) == "b"
    assert await names(things, Query(instance=Thing(name="", cpu=CPU(cores=2.0)))) == "a"
    assert await names(things, Query(instance=Thing(name="", size=2)).where(gt("weight", 2))) == "Bb"
    assert await names(things, Query(instance=Thing(name="", colour=Colour.BLUE))) == "c"
    with pytest.raises(InvalidData, match="tags cannot be compared"):
        await things.find_all(Query(instance=Thing(name="", tags=("t",))))


async def test_a_document_of_another_shape_is_named(store: Store, things: Repository[Thing]) -> None:
    await store.run(lambda s: s.execute(text("""UPDATE reservations SET data = '{"name": [1]}' WHERE id = 'id-a'""")))
    with pytest.raises(BadRecord, match=r"^error parsing model: reservations id-a: "):
        await things.get("id-a")


async def test_several_operations_share_a_transaction(store: Store, things: Repository[Thing]) -> None:
    def swap(session: Session) -> None:
        documents = things.on(session)
        documents.delete("id-a")
        documents.delete("nothing")

    with pytest.raises(RecordNotFound):
        await store.run(swap)
    assert (await things.get("id-a")).value.name == "a"


async def test_an_entity_has_a_newest_version_and_a_history(store: Store) -> None:
    entity = EntityRepository(store, onboarding_config, Thing, history=3)
    with pytest.raises(RecordNotFound):
        await entity.get()
    for number in range(5):
        await entity.save(Thing(name=f"v{number}", size=number))
    assert (await entity.get()).value.name == "v4"
    assert [r.value.name for r in await entity.history()] == ["v4", "v3", "v2"]
    assert [r.value.name for r in await entity.history(Query(sort_by="size").where(gt("size", 2)))] == ["v3", "v4"]
    await entity.clear()
    assert await entity.history() == ()
    with pytest.raises(RecordNotFound):
        await entity.get()
