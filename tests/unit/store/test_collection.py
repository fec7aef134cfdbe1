"""Values of every kind go into the rows of either flavour and come out as they were."""

from collections.abc import Iterator

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData, Table
from tests.unit.store.things import Colour, Thing

from dms.store import Documents, Query, Repository, Session, Store
from dms.store.collection import collection, document_table, relational_table
from dms.store.errors import InvalidData
from dms.store.members import Member, Part, leaves
from dms.store.query import eq, gt, is_in, lt
from dms.types.gojson import Wire
from dms.types.resources import CPU

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(max_size=20)
things = st.builds(
    Thing,
    name=TEXTS,
    size=INT64,
    weight=FLOATS,
    good=st.booleans(),
    colour=st.sampled_from(Colour),
    owner=st.none() | TEXTS,
    cpu=st.builds(CPU, cores=FLOATS, model=TEXTS),
    tags=st.lists(TEXTS, max_size=3).map(tuple),
    renamed=TEXTS,
)
_metadata = MetaData()
DOCUMENTS, COLUMNS = document_table("documents", _metadata), relational_table("columns", _metadata, Thing)


class Inner(Wire):
    size: int = 7


class Odd(Wire):
    """Defaults that are not empty, parts that may be missing, names that every record has."""

    id: str = "unset"
    count: int | None = None
    inner: Inner = msgspec.field(default_factory=Inner)
    maybe: Inner | None = None
    words: dict[str, int] | None = None


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """In memory, one for all examples."""
    store = trio.run(Store.open, None)
    yield store
    trio.run(store.aclose)


@settings(max_examples=60)
@given(stored=st.lists(things, min_size=1, max_size=4), wanted=things)
def test_both_flavours_keep_find_and_sort_alike(store: Store, stored: list[Thing], wanted: Thing) -> None:
    queries = [
        Query().where(eq("size", wanted.size)),
        Query(sort_by="-weight").where(gt("size", wanted.size)),
        Query(sort_by="name").where(lt("cpu.cores", wanted.cpu.cores)),
        Query(sort_by="owner", limit=2, offset=1),
        Query().where(is_in("owner", wanted.owner, None, "")),
        Query(instance=Thing(name=wanted.name, good=True)),
    ]

    def ask(session: Session, table: Table) -> list[object]:
        session.execute(table.delete())
        records = Documents(session, table, Thing)
        for number, thing in enumerate(stored):
            records.create(thing, str(number))
        assert [record.value for record in records.find_all()] == stored
        return [records.find_all(query) for query in queries]

    async def compare() -> None:
        await store.run(lambda session: _metadata.create_all(session, checkfirst=True))
        assert await store.run(lambda session: ask(session, DOCUMENTS) == ask(session, COLUMNS))

    trio.run(compare)


@pytest.mark.parametrize(
    "value",
    [Odd(), Odd(count=5), Odd(count=0, id=""), Odd(inner=Inner(size=0)), Odd(maybe=Inner()), Odd(maybe=Inner(size=1)),
     Odd(words={}), Odd(words={"b": 2})],
)  # fmt: skip
@pytest.mark.parametrize("is_relational", [True, False])
async def test_what_is_missing_empty_or_null_stays_so(value: Odd, is_relational: bool) -> None:
    metadata = MetaData()
    table = relational_table("odd", metadata, Odd) if is_relational else document_table("odd", metadata)
    async with await Store.open(None) as store:
        await store.run(lambda session: table.create(session))
        repository = Repository(store, table, Odd)
        await repository.create(value, "key")
        assert (await repository.get("key")).value == value
        assert await repository.count(Query().where(eq("id", value.id), eq("count", value.count))) == 1
        assert await repository.count(Query().where(eq("inner.size", value.inner.size))) == 1


def test_members_get_a_column_each_and_all_else_one_with_json() -> None:
    found = {".".join(leaf.path): leaf for leaf in leaves(Odd)}
    assert found["inner.size"] == Member(("inner", "size"), int, 7, attributes=("inner", "size"))
    assert found["count"] == Member(("count",), int, None, is_optional=True, attributes=("count",))
    assert (found["maybe"], found["words"]) == (Part(("maybe",), ("maybe",)), Part(("words",), ("words",)))
    names = set(relational_table("odd", MetaData(), Odd).c.keys())
    assert {"id", "id_", "inner_size", "maybe"} <= names


def test_what_lies_in_a_part_cannot_be_compared_in_a_relational_table() -> None:
    table = relational_table("odd", MetaData(), Odd)
    with pytest.raises(InvalidData, match=r'"maybe.size" has no column in odd'):
        collection(table, Odd).field("maybe.size", "sqlite")
