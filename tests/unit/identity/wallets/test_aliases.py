from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from dms.identity.errors import AliasNotFound, BadName, BadNameFile
from dms.identity.wallets.aliases import LedgerAliases, parse_index


def test_an_alias_names_an_account(tmp_path: Path) -> None:
    aliases = LedgerAliases(tmp_path / "user")
    aliases.set("savings", 3)
    aliases.set("work", 0)
    assert aliases.all() == {"savings": 3, "work": 0}
    assert (aliases.account("savings"), aliases.account("work")) == (3, 0)
    assert (aliases.account(""), aliases.account("12")) == (0, 12)


def test_the_file_is_private_indented_and_the_old_one_is_kept(tmp_path: Path) -> None:
    aliases = LedgerAliases(tmp_path, clock_s=lambda: 1700000000.9)
    aliases.set("a", 1)
    aliases.set("b", 2)
    assert aliases.path.name == "ledger_aliases.json"
    assert aliases.path.read_text() == '{\n  "a": 1,\n  "b": 2\n}'
    assert stat.S_IMODE(aliases.path.stat().st_mode) == 0o600
    kept = tmp_path / "ledger_aliases.json.1700000000"
    assert json.loads(kept.read_text()) == {"a": 1}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@pytest.mark.parametrize("alias", ["", "a:b", "7", "-7", "+7", "..", "a/b", ".a", "x" * 201])
def test_names_that_could_mean_something_else_are_refused(tmp_path: Path, alias: str) -> None:
    aliases = LedgerAliases(tmp_path)
    with pytest.raises(BadName):
        aliases.set(alias, 0)
    assert not aliases.path.exists()


def test_an_unknown_alias_is_named(tmp_path: Path) -> None:
    with pytest.raises(AliasNotFound, match=r"^ledger alias not found: 'x'"):
        LedgerAliases(tmp_path).account("x")


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.5", "x", "2147483648", "9" * 50, "١"])
def test_the_number_of_an_account_is_checked(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadName, match=r"^index must be a non-negative integer$"):
        parse_index(text)


@pytest.mark.parametrize("text", ["-1", "2147483648"])
def test_a_context_name_with_an_impossible_account_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadName, match="index must be"):
        LedgerAliases(tmp_path).account(text)
    assert parse_index("2147483647") == 2147483647


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"a": "1"}', '{"a": 1.5}', "\xff", "[" * 100_000, " " * 2**21],
    ids=["empty", "list", "text", "fraction", "no UTF-8", "deep", "huge"],
)
def test_a_damaged_file_is_reported_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    aliases = LedgerAliases(tmp_path)
    aliases.path.write_text(text, encoding="latin-1")
    with pytest.raises(BadNameFile, match=r"ledger_aliases\.json"):
        aliases.account("a")
    with pytest.raises(BadNameFile):
        aliases.set("a", 1)
    assert aliases.path.read_text(encoding="latin-1") == text


def test_a_number_beyond_accounts_in_the_file_is_refused(tmp_path: Path) -> None:
    aliases = LedgerAliases(tmp_path)
    aliases.path.write_text('{"a": -4}')
    with pytest.raises(BadName):
        aliases.account("a")
