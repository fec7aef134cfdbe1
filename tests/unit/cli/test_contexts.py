"""Contexts that a wallet or a did:prism signs for, from the command line to a verified token."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dms.capability.context import CapabilityContext
from dms.capability.errors import ContextNotFound
from dms.capability.store import context_path, save_context
from dms.capability.token import decode_token_list, encode_token_list
from dms.capability.verification import verify
from dms.cli.cap import app
from dms.cli.prompts import Cancelled
from dms.identity.errors import AliasNotFound, InvalidKey, NoProvider, ResolutionFailed, WalletMissing
from dms.identity.ids import DID
from dms.identity.keystore import Keystore
from dms.identity.prism.associations import PrismAssociations
from dms.identity.trust import Provider, TrustContext
from dms.identity.wallets.aliases import LedgerAliases
from dms.testing import wallets
from dms.testing.parties import NOW_NS, Party
from dms.testing.prism import PrismService, serve_prism
from dms.types.ids import Capability

runner = CliRunner()
SECRET = b"\x01" * 32
SUBJECT = Party("subject").did
PRISM = DID(uri="did:prism:" + "4f" * 32)


@pytest.fixture(autouse=True)
def _cheap_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key files say what they cost, and cost nothing: half a second each is what other tests are for."""
    scrypt = hashlib.scrypt
    monkeypatch.setattr(hashlib, "scrypt", lambda *args, **params: scrypt(*args, **{**params, "n": 2}))


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMS_PASSPHRASE", "secret")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    wallets.install_ledger(tmp_path, SECRET)
    wallets.install_eternl(tmp_path, SECRET)
    return tmp_path


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[PrismService]:
    monkeypatch.setenv("NO_PROXY", "*")
    with serve_prism() as running:
        monkeypatch.setenv("DMS_IDENTITY_PRISM_RESOLVER_URL", running.url)
        yield running


def run(*args: str, answers: str = "") -> str:
    result = runner.invoke(app, args, input=answers, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def path_of(file_name: str) -> Path:
    return context_path(Path.home() / ".nunet" / "cap", file_name)


def granted(context: str) -> str:
    return run("grant", "-c", context, "--cap", "/a", "--duration", "1h", SUBJECT.uri)


def issuer_of(text: str) -> str:
    """The issuer of the only token of a list, after its signature was verified with nothing but the token."""
    (token,) = decode_token_list(text.encode()).tokens
    verify(token, TrustContext(), NOW_NS)
    return token.body.iss.uri


def key_named(name: str) -> Party:
    party = Party(name)
    Keystore(Path.home() / ".nunet" / "key", scrypt_n=2).save(name, party.key, "secret")
    return party


@pytest.mark.parametrize(
    ("name", "file_name", "start"),
    [
        ("ledger", "ledger", "did:key:zzCH"),
        ("ledger:2", "2", "did:key:zzCH"),
        ("ledger:savings", "savings", "did:key:zzCH"),
        ("eternl:main", "main", "did:key:zE4Mr"),
    ],
)
def test_a_wallet_signs_for_its_context(programs: Path, name: str, file_name: str, start: str) -> None:
    LedgerAliases(Path.home() / ".nunet").set("savings", 2)
    assert f"wallet for '{name}' context" in run("new", name)
    assert json.loads(path_of(file_name).read_text())["did"]["uri"].startswith(start)
    assert issuer_of(granted(name)).startswith(start)
    run("anchor", "-c", name, "--root", SUBJECT.uri)
    assert SUBJECT.uri in run("list", "-c", name)


def test_accounts_are_different_identities(programs: Path) -> None:
    LedgerAliases(Path.home() / ".nunet").set("savings", 2)
    for name in ("ledger", "ledger:2", "ledger:savings"):
        run("new", name)
    first, second, alias = (issuer_of(granted(name)) for name in ("ledger", "ledger:2", "ledger:savings"))
    assert first != second == alias


def test_a_file_with_the_full_name_is_found_as_well(programs: Path) -> None:
    run("new", "ledger:2")
    path_of("2").rename(path_of("ledger:2"))
    assert issuer_of(granted("ledger:2")).startswith("did:key:zzCH")


def test_the_context_of_a_key_is_not_taken_for_that_of_a_wallet(programs: Path) -> None:
    user = key_named("user")
    save_context(user.context, path_of("user"))
    before = path_of("user").read_bytes()
    LedgerAliases(Path.home() / ".nunet").set("user", 1)
    with pytest.raises(ContextNotFound):
        granted("ledger:user")
    run("new", "ledger:user")
    assert path_of("ledger:user").exists()
    run("anchor", "-c", "ledger:user", "--root", SUBJECT.uri)
    assert issuer_of(granted("ledger:user")).startswith("did:key:zzCH")
    assert path_of("user").read_bytes() == before
    assert issuer_of(granted("user")) == user.did.uri


def test_a_context_named_like_a_wallet_but_longer_uses_a_key(programs: Path) -> None:
    assert "A new identity will be created for 'ledgerbook' context" in run("new", "ledgerbook")
    assert issuer_of(granted("ledgerbook")).startswith("did:key:z6Mk")
    assert wallets.calls(programs) == []


def test_a_wallets_context_is_overwritten_only_after_a_yes(programs: Path) -> None:
    run("new", "ledger:2")
    with pytest.raises(Cancelled):
        run("new", "ledger:2", answers="n\n")
    run("new", "ledger:2", "--force")


def test_a_context_does_not_open_with_another_device_than_it_was_made_with(programs: Path) -> None:
    run("new", "ledger")
    wallets.install_ledger(programs, b"\x02" * 32)
    with pytest.raises(NoProvider, match=r"^no provider for did:key:zzCH\w+, whose context 'ledger' is"):
        granted("ledger")


def test_a_missing_wallet_or_alias_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WalletMissing, match="can't find ledger-cli in PATH"):
        run("new", "ledger")
    with pytest.raises(AliasNotFound):
        run("new", "ledger:savings")
    assert not path_of("ledger").exists()


def test_a_key_with_a_did_prism_signs_for_it(service: PrismService) -> None:
    user = key_named("user")
    PrismAssociations(Path.home() / ".nunet").set("user", PRISM)
    service.publish(PRISM, user.key.public)
    assert run("new", "user").startswith("Using identity at ")
    assert json.loads(path_of("user").read_text())["did"] == {"uri": PRISM.uri}
    (token,) = decode_token_list(granted("user").encode()).tokens
    verify(token, TrustContext(Provider.of_key(user.key, PRISM)), NOW_NS)
    assert token.body.iss == PRISM


def test_a_key_that_the_did_prism_does_not_have_makes_no_context(service: PrismService) -> None:
    key_named("user")
    PrismAssociations(Path.home() / ".nunet").set("user", PRISM)
    service.publish(PRISM, Party("other").key.public)
    with pytest.raises(InvalidKey, match="has another key"):
        run("new", "user")
    assert not path_of("user").exists()


def test_an_explicit_service_must_know_the_did_prism_and_the_configured_one_may_not(service: PrismService) -> None:
    key_named("user")
    PrismAssociations(Path.home() / ".nunet").set("user", PRISM)
    with pytest.raises(ResolutionFailed):
        run("new", "user", "--prism-url", service.url)
    result = runner.invoke(app, ["new", "user"], catch_exceptions=False)
    assert "warning: not checked whether did:prism:" in result.stderr
    assert path_of("user").exists()


def test_a_context_with_tokens_of_a_did_prism_opens_where_it_can_be_resolved(service: PrismService) -> None:
    user, org = key_named("user"), Party("org")
    org_context = CapabilityContext("org", PRISM, TrustContext(Provider.of_key(org.key, PRISM)))
    from_org = org_context.grant("delegate", user.did, DID(), (), 2**62, 0, [Capability("/a")])
    context = CapabilityContext("user", user.did, TrustContext(user.provider, Provider.of_key(org.key, PRISM)))
    context.add_roots([], provide=from_org)
    save_context(context, path_of("user"))
    delegate = ["delegate", "-c", "user", "--cap", "/a", "--duration", "1h", SUBJECT.uri]
    unknown = runner.invoke(app, delegate)
    assert unknown.exit_code != 0
    assert f"skipped provide[0]: {PRISM} is not resolved" in unknown.stderr
    service.publish(PRISM, org.key.public)
    (token,) = decode_token_list(run(*delegate).encode()).tokens
    assert [level.iss for level in token.levels] == [user.did, PRISM]


def test_anchors_issued_by_a_did_prism_are_added_listed_and_removed(service: PrismService) -> None:
    user, org = key_named("user"), Party("org")
    save_context(user.context, path_of("user"))
    service.publish(PRISM, org.key.public)
    org_context = CapabilityContext("org", PRISM, TrustContext(Provider.of_key(org.key, PRISM)))
    from_org = org_context.grant("delegate", user.did, DID(), (), 2**62, 0, [Capability("/a")])
    run("anchor", "-c", "user", "--provide", encode_token_list(from_org).decode())
    (token,) = json.loads(run("list", "-c", "user", "-o", "json"))["provide"]
    assert token["dms"]["iss"] == {"uri": PRISM.uri}
    run("remove", "-c", "user", "--provide", json.dumps(token))
    assert json.loads(run("list", "-c", "user", "-o", "json"))["provide"] == []
