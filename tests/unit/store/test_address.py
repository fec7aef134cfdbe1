import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.store import DatabaseURL, locate
from dms.store.errors import BadDatabaseURL


def test_without_an_address_the_database_is_a_file(tmp_path: Path) -> None:
    assert locate("", tmp_path) == tmp_path / "dms.sqlite"
    assert locate("postgres://u@h/d", tmp_path) == DatabaseURL("postgres://u@h/d")


def test_a_password_never_prints() -> None:
    url = DatabaseURL("postgresql://ann:s3cret@db:5433/node?sslmode=require")
    assert str(url) == "postgresql://ann:***@db:5433/node?sslmode=require"
    assert "s3cret" not in repr(url)
    assert url.dump_command.endswith(" 'postgresql://ann@db:5433/node?sslmode=require'")
    assert " --dbname='postgresql://ann@db:5433/node?sslmode=require' " in url.restore_command
    assert url.engine_url.password == "s3cret"
    assert url == DatabaseURL("postgresql://ann:s3cret@db:5433/node?sslmode=require") != DatabaseURL("postgres://h/d")


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "mysql://u:s3cret@h/d", "sqlite:///x", "postgresql://u:s3cret@h", "postgresql://h:99x9/d",
     "postgresql://h/d?password=s3cret"],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_telling_it(text: str) -> None:
    with pytest.raises(BadDatabaseURL) as caught:
        DatabaseURL(text)
    assert "s3cret" not in f"{caught.value} {caught.value.hint}"


@given(st.text(max_size=60))
def test_no_text_whatsoever_escapes_the_error_tree(text: str) -> None:
    for address in (text, f"postgresql://{text}"):
        with contextlib.suppress(BadDatabaseURL):
            assert str(DatabaseURL(address))
