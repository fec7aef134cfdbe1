"""One suite for every engine and flavour: whatever repositories promise, they promise on each of them."""

import pytest
from sqlalchemy import MetaData, Table, text
from tests.unit.store.things import THINGS, Colour, Thing

from dms.store import EntityRepository, InvalidData, Query, RecordNotFound, Repository, Session, Store
from dms.store.collection import relational_table
from dms.store.errors import BadRecord
from dms.store.query import Condition, Operator, eq, gt, gte, is_in, like, lt, lte, ne
from dms.types.resources import CPU, RAM


@pytest.fixture
async def things(store: Store, table: Table) -> Repository[Thing]:
    repository = Repository(store, table, Thing)
    for thing in THINGS:
        await repository.create(thing, f"id-{thing.name}")
    return repository


async def names(repository: Repository[Thing], query: Query) -> str:
    return " ".join(record.value.name for record in await repository.find_all(query))


async def test_create_get_update_delete(store: Store, table: Table) -> None:
    repository = Repository(store, table, Thing)
    made = await repository.create(THINGS[0])
    assert len(made.id) == 36
    assert made.created_at_ns == made.updated_at_ns == 1001 * 10**9
    assert await repository.get(made.id) == made
    changed = await repository.update(made.id, THINGS[1])
    assert (changed.id, changed.value, changed.created_at_ns) == (made.id, THINGS[1], made.created_at_ns)
    assert changed.updated_at_ns > made.updated_at_ns
    await repository.delete(made.id)
    for missing in (repository.get(made.id), repository.delete(made.id), repository.update(made.id, THINGS[0])):
        with pytest.raises(RecordNotFound, match=r"^record not found$"):
            await missing
    await repository.create(THINGS[0], made.id)


async def test_put_creates_and_replaces(store: Store, table: Table) -> None:
    repository = Repository(store, table, Thing)
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
    with pytest.raises(RecordNotFound):
        await things.update("id-b", THINGS[0])
    with pytest.raises(InvalidData, match="there is a record id-b already"):
        await things.create(THINGS[1], "id-b")


async def test_hidden_records_are_found_by_those_who_ask_and_can_be_shown_again(things: Repository[Thing]) -> None:
    await things.hide("id-b")
    everything = await things.find_all(Query(with_hidden=True))
    assert [(r.value.name, r.deleted_at_ns > 0) for r in everything] == [
        ("a", False),
        ("b", True),
        ("c", False),
        ("Bb", False),
    ]
    assert (await things.unhide("id-b")).deleted_at_ns == 0
    assert await names(things, Query()) == "a b c Bb"
    for missing in ("id-b", "nothing"):
        with pytest.raises(RecordNotFound):
            await things.unhide(missing)


async def test_bad_ids_and_values_are_refused(store: Store, table: Table) -> None:
    repository = Repository(store, table, Thing)
    for bad in ("", "x" * 201):
        with pytest.raises(InvalidData, match="1 to 200"):
            await repository.create(THINGS[0], bad)
    with pytest.raises(InvalidData, match="a CPU is not a Thing"):
        await repository.create(CPU(), "x")  # type: ignore[arg-type]
    with pytest.raises(InvalidData):
        await repository.create(Thing(name="x", weight=float("nan")))
    assert await repository.count() == 0


OPERATORS: tuple[tuple[Condition, str], ...] = (
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
    (is_in("owner", "me", None), "a b c Bb"),
    (is_in("owner", None), "a c Bb"),
    (is_in("size", 1, 3), "a b"),
    (gt("name", "B"), "a b c Bb"),
    (gt("name", "a"), "b c"),  # by bytes, not by dictionary
    (like("name", "b%"), "b Bb"),
    (like("name", "_b"), "Bb"),
    (like("name", "%'; DROP TABLE reservations; --"), ""),
    (like("name", r"\%"), ""),
    (like("name", r"\_b"), ""),
    (like("name", r"b\b"), "Bb"),
    (eq("cpu.cores", 4), "c"),
    (eq("cpu.cores", 0), "b Bb"),
    (eq("cpu.model", "x"), "a"),
    (eq("otherName", "r"), "b"),
    (eq("renamed", "r"), "b"),
    (eq("id", "id-c"), "c"),
    (gt("created_at", 1002 * 10**9), "c Bb"),
)


async def test_every_operator(things: Repository[Thing]) -> None:
    found = [(condition, await names(things, Query().where(condition))) for condition, _ in OPERATORS]
    assert found == list(OPERATORS)


SENSELESS = (
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
    gt("owner", None),
    lte("size", None),
    gt("good", False),
    is_in("size", *range(1001)),
    Condition("name", Operator.LIKE, None),
    like("name", "a\\"),
)


async def test_a_condition_that_cannot_be_meant_is_refused(things: Repository[Thing]) -> None:
    for condition in SENSELESS:
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


async def test_patterns_find_signs_that_mean_something_in_patterns(store: Store, table: Table) -> None:
    repository = Repository(store, table, Thing)
    for name in ("10%", "100", "a_b", "axb", "back\\slash", "ÄB", "äb"):
        await repository.create(Thing(name=name))
    assert await names(repository, Query().where(like("name", r"10\%"))) == "10%"
    assert await names(repository, Query().where(like("name", "10%"))) == "10% 100"
    assert await names(repository, Query().where(like("name", r"A\_B"))) == "a_b"
    assert await names(repository, Query().where(like("name", r"%\\s%"))) == "back\\slash"
    assert await names(repository, Query().where(like("name", "Äb"))) == "ÄB"  # ASCII alone has no case


async def test_large_numbers_and_odd_texts_are_what_they_were(store: Store, table: Table) -> None:
    repository = Repository(store, table, Thing)
    odd = Thing(
        name="'\"\\\n\t %s :x {} \u2028 ☃ 😀 \\u0000",
        size=2**63 - 1,
        weight=1e-300,
        owner="",
        tags=("", "null", "[]"),
        renamed="x" * 100_000,
    )
    await repository.create(odd, "☃ %")
    assert (await repository.get("☃ %")).value == odd
    assert (await repository.find(Query(instance=odd.__class__(name=odd.name)))).value == odd
    assert await repository.count(Query().where(eq("size", 2**63 - 1), eq("weight", 1e-300), eq("owner", ""))) == 1
    await repository.update("☃ %", Thing(name="", size=-(2**63)))
    assert await repository.count(Query().where(lt("size", -(2**62)), eq("name", ""), eq("owner", None))) == 1


async def test_numbers_beyond_the_engine_are_refused_not_rounded(store: Store, table: Table) -> None:
    repository = Repository(store, table, Thing)
    for bad in (Thing(name="x", weight=float("inf")), Thing(name="x", weight=float("nan"))):
        with pytest.raises(InvalidData):
            await repository.create(bad)
    assert await repository.count() == 0


async def test_what_is_not_there_is_sorted_first(store: Store, table: Table) -> None:
    repository = Repository(store, table, Thing)
    for name, owner in (("one", "z"), ("two", None), ("three", "B"), ("four", "a"), ("five", "")):
        await repository.create(Thing(name=name, owner=owner))
    assert await names(repository, Query(sort_by="owner")) == "two five three four one"
    assert await names(repository, Query(sort_by="-owner")) == "one four three five two"


async def test_a_record_of_another_shape_is_named(store: Store, table: Table, things: Repository[Thing]) -> None:
    is_document = "data" in table.c
    change = """data = '{"name": [1]}'""" if is_document else "colour = 'green'"
    await store.run(lambda s: s.execute(text(f"UPDATE {table.name} SET {change} WHERE id = 'id-a'")))
    with pytest.raises(BadRecord, match=rf"^error parsing model: {table.name} id-a: "):
        await things.get("id-a")
    with pytest.raises(BadRecord):
        await things.find_all()
    assert (await things.get("id-b")).value == THINGS[1]


async def test_several_operations_share_a_transaction(store: Store, things: Repository[Thing]) -> None:
    def swap(session: Session) -> None:
        documents = things.on(session)
        documents.delete("id-a")
        documents.delete("nothing")

    with pytest.raises(RecordNotFound):
        await store.run(swap)
    assert (await things.get("id-a")).value.name == "a"


async def test_an_entity_has_a_newest_version_and_a_history(store: Store, table: Table) -> None:
    entity = EntityRepository(store, table, Thing, history=3)
    with pytest.raises(RecordNotFound):
        await entity.get()
    for number in range(5):
        await entity.save(Thing(name=f"v{number}", size=number))
    assert (await entity.get()).value.name == "v4"
    assert [r.value.name for r in await entity.history()] == ["v4", "v3", "v2"]
    assert [r.value.name for r in await entity.history(Query(sort_by="size").where(gt("size", 2)))] == ["v3", "v4"]
    assert await entity.history(entity.get_query()) == await entity.history()
    assert [r.value.name for r in await entity.history(Query(limit=1, offset=1))] == ["v3"]
    with pytest.raises(InvalidData, match="a CPU is not a Thing"):
        await entity.save(CPU())  # type: ignore[arg-type]
    await entity.clear()
    assert await entity.history() == ()
    with pytest.raises(RecordNotFound):
        await entity.get()


async def test_an_empty_query_asks_for_everything(things: Repository[Thing]) -> None:
    assert await names(things, things.get_query()) == "a b c Bb"
    assert await names(things, things.get_query().where(eq("name", "a"))) == "a"


def test_a_table_is_for_one_type() -> None:
    table = relational_table("of_things", MetaData(), Thing)
    assert {"name", "cpu_cores", "otherName", "tags", "id"} <= set(table.c.keys())
    with pytest.raises(TypeError, match=r"is for .*Thing.*, not for"):
        Repository(None, table, RAM).on(None)  # type: ignore[arg-type]
