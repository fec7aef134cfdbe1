"""A network by hand, with the commands of the manual: an organisation, two people, two machines."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dms.devnet import processes
from dms.devnet.plan import free_ports
from dms.identity.ids import did_of
from dms.identity.keys import generate_key
from dms.identity.keystore import Keystore
from dms.testing.commandline import Done, Nunet
from dms.testing.localnet import programs_in, run_node

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("other networks")]

EXAMPLE = Path(__file__).parents[2] / "examples" / "wordcount.yaml"
MEMBERS_MAY = ("--cap", "/public", "--cap", "/dms/deployment", "--cap", "/broadcast", "--topic", "/nunet")

TAKEN_UP = "The running node has taken this up.\n"
"""What commands say that change the context of a daemon that runs."""

At = Callable[[str], Nunet]


@pytest.fixture
def passphrase(monkeypatch: pytest.MonkeyPatch) -> str:
    phrase = secrets.token_hex()
    monkeypatch.setenv("DMS_PASSPHRASE", phrase)
    return phrase


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[dict[str, int]]:
    """The REST port of each place: a directory with a configuration that every command run there takes."""
    p2p_alice, p2p_bob, p2p_org, *rest = free_ports(6)
    chosen = {}
    for name, p2p, port in zip(("alice", "bob", "org"), (p2p_alice, p2p_bob, p2p_org), rest, strict=True):
        place = tmp_path / name
        place.mkdir()
        settings = {
            # env: other tests keep the processors busy, which would stand against onboarding
            "general": {"env": "test", "user_dir": str(place / "user"), "work_dir": str(place / "work")},
            "rest": {"port": port},
            "p2p": {"listen_address": [f"/ip4/127.0.0.1/tcp/{p2p}"], "bootstrap_peers": []},
        }
        (place / "dms_config.json").write_text(json.dumps(settings))
        chosen[name] = port
    yield chosen
    processes.stop_all(programs_in(tmp_path))


@pytest.fixture
def at(tmp_path: Path, ports: dict[str, int], nunet: Nunet, monkeypatch: pytest.MonkeyPatch) -> At:
    """Somebody's terminal."""

    def terminal(who: str) -> Nunet:
        def run(*args: object) -> Done:
            monkeypatch.chdir(tmp_path / who)
            return nunet(*args)

        return run

    return terminal


def ok(done: Done) -> str:
    assert (done.code, done.err.removeprefix(TAKEN_UP)) == (0, ""), done
    return done.out.strip()


def test_the_quick_start(at: At, tmp_path: Path, ports: dict[str, int], passphrase: str) -> None:
    alice, bob, org = at("alice"), at("bob"), at("org")

    # keys and contexts
    def new(who: str, name: str) -> str:
        keys = Keystore(tmp_path / who / "user/key", scrypt_n=2)
        if who == "alice":
            did = ok(at(who)("key", "new", name))
            key = keys.get(name, passphrase)
        else:
            key = generate_key()
            did = did_of(key.public).uri
        keys.save(name, key, passphrase)  # cheap to open: there are many commands to come
        assert did.startswith("did:key:z6Mk")
        assert ok(at(who)("cap", "new", name)).startswith("Using identity at ")
        assert ok(at(who)("key", "did", name)) == did
        return did

    organisation = new("org", "org")
    people = {who: new(who, "user") for who in ("alice", "bob")}
    machines = {who: new(who, "dms") for who in ("alice", "bob")}

    # each person owns a machine
    for who, person in people.items():
        assert ok(at(who)("cap", "anchor", "--context", "dms", "--root", person)) == ""

    def join(who: str) -> None:
        """The organisation makes a person a member, and the person trusts its members."""
        token = ok(org("cap", "grant", "--context", "org", *MEMBERS_MAY, "--duration", "30d", people[who]))
        ok(at(who)("cap", "anchor", "--context", "user", "--provide", token))
        passed = ok(at(who)("cap", "delegate", "--context", "user", *MEMBERS_MAY, "--duration", "29d", machines[who]))
        ok(at(who)("cap", "anchor", "--context", "dms", "--provide", passed))
        grant = ok(at(who)("cap", "grant", "--context", "user", *MEMBERS_MAY, "--duration", "30d", organisation))
        ok(at(who)("cap", "anchor", "--context", "dms", "--require", grant))

    join("bob")
    env = {"DMS_PASSPHRASE": passphrase}
    with run_node(tmp_path / "alice", ports["alice"], env=env) as node_a:
        itself = json.loads(ok(alice("actor", "cmd", "--context", "user", "/dms/node/peers/self")))
        ok(bob("config", "set", "p2p.bootstrap_peers", json.dumps([itself["listen_addr"]])))
        with run_node(tmp_path / "bob", ports["bob"], env=env) as node_b:
            call = ("actor", "cmd", "--context", "user")
            while itself["id"] not in json.loads(ok(bob(*call, "/dms/node/peers/list")))["Peers"]:
                pass

            # onboard
            offer = ("--cpu", "1", "--ram", "3", "--disk", "1", "--no-gpu")
            done = json.loads(ok(alice(*call, "/dms/node/onboarding/onboard", *offer)))
            assert (done["success"], done["error"]) == (True, "")
            assert json.loads(ok(alice(*call, "/dms/node/onboarding/status")))["onboarded"] is True
            free = ok(alice(*call, "/dms/node/resources/free"))

            # alice has not joined: nobody of the organisation gets an answer from her machine
            hello = (*call, "/public/hello", "--dest", itself["id"], "--timeout", "1s")
            assert bob(*hello).code == 6
            join("alice")  # while the daemon runs: it notices
            while (done := bob(*hello)).code in (3, 6):
                pass
            assert json.loads(ok(done)) == {"DID": machines["alice"]}
            answers = json.loads(ok(bob(*call, "/broadcast/hello", "--timeout", "1s")))
            assert {answer["DID"] for answer in answers} == {machines["alice"]}

            # members are no owners
            owning = bob(*call, "/dms/node/onboarding/offboard", "--dest", itself["id"], "--timeout", "1s")
            assert owning.code == 3  # a member is told

            # deploy from one machine onto the other
            shutil.copytree(EXAMPLE.parent, tmp_path / "bob/examples")
            identifier = ok(bob("deploy", "-f", "examples/wordcount.yaml", "--timeout", "1m"))
            assert "Running" in ok(bob("status", identifier))
            while "heartbeat: started" not in ok(bob("logs", identifier, "ticker")):
                pass
            assert "right.ticker" in ok(alice("get", "allocations"))
            assert ok(bob("shutdown", identifier)) == "Completed"
            assert ok(alice(*call, "/dms/node/resources/free")) == free
    assert (node_a.returncode, node_b.returncode) == (0, 0)
