"""Keys as provision scripts, run by a real shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dms.ensemble.config import AllocationConfig, KeyConfig
from dms.ensemble.keys import key_scripts
from dms.types.resources import Resources, SpecConfig

SSH = "ssh-ed25519 AAAAC3Nza ann's laptop $(touch /tmp/x) `id`"


def allocation(*keys: KeyConfig, **params: object) -> AllocationConfig:
    execution = SpecConfig(type="docker", params={"image": "a", **params})
    return AllocationConfig(
        type="service", executor="docker", resources=Resources(), execution=execution, keys=tuple(keys)
    )


def run(script: bytes, home: Path) -> None:
    """As root would, with another home for root."""
    passwd = home / "passwd"
    passwd.write_text(f"daemon:x:1:1::/usr:/bin/false\nroot:x:0:0:root:{home}:/bin/sh\n")
    subprocess.run(["sh", "-c", script.decode().replace("/etc/passwd", str(passwd))], check=True)


def test_ssh_keys_are_added_to_the_authorized_keys_as_they_are(tmp_path: Path) -> None:
    scripts = key_scripts(allocation(KeyConfig(type="ssh", file=f"{SSH}\n"), KeyConfig(type="ssh", file="second")))
    assert list(scripts) == ["_key-000", "_key-001"]
    for script in scripts.values():
        run(script, tmp_path)
    file = tmp_path / ".ssh/authorized_keys"
    assert file.read_text() == f"{SSH}\nsecond\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_other_keys_become_private_files_at_their_destinations(tmp_path: Path) -> None:
    keys = (
        KeyConfig(type="gpg", file="-----BEGIN\nkey\n-----END", dest=f"{tmp_path}/a b/key.asc"),
        KeyConfig(type="ssh", file="private", dest="~/.ssh/id"),
    )
    for script in key_scripts(allocation(*keys)).values():
        run(script, tmp_path)
        run(script, tmp_path)  # again, as after a restart
    assert (tmp_path / "a b/key.asc").read_text() == "-----BEGIN\nkey\n-----END\n"
    assert (tmp_path / "a b/key.asc").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".ssh/id").read_text() == "private\n"


def test_the_owner_is_the_user_of_the_engines_parameters() -> None:
    (script,) = key_scripts(allocation(KeyConfig(type="ssh", file="k"), user="ann; reboot")).values()
    assert b"user='ann; reboot'\n" in script
    assert b'chown "$user"' in script
    (script,) = key_scripts(allocation(KeyConfig(type="ssh", file="k"))).values()
    assert b"user=root\n" in script


def test_without_keys_there_is_nothing_to_run() -> None:
    assert key_scripts(allocation()) == {}


@settings(max_examples=20)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.text(max_size=20))
def test_no_key_and_no_user_breaks_out_of_its_quotes(content: str, user: str) -> None:
    (script,) = key_scripts(allocation(KeyConfig(type="ssh", file=content), user=user)).values()
    if "\0" not in user and user.isprintable():
        subprocess.run(["sh", "-n", "-c", script.decode()], check=True)
