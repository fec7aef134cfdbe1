"""``nunet ssh``: what it makes of the ``ssh`` of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dms.cli.ssh import host_key_alias, ssh_command
from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon
from dms.testing.localnet import nunet_command

BEHAVIOUR = "/dms/node/deployment/forward"
FAKE = """#!/bin/sh
for word; do
  case $word in ProxyCommand=*) proxy=${word#ProxyCommand=};; esac
  echo "$word"
done
printf 'hello' | bash -c "exec $proxy"  # as OpenSSH does
exit 7
"""


@pytest.fixture
def service(node: ScriptedDaemon) -> ScriptedDaemon:
    node.ports[22] = bytes.upper
    node.answers[BEHAVIOUR] = lambda _: {
        "ok": True,
        "ticket": "right",
        "lifetime_s": 120,
        "allocation": "n1.box",
        "deployment": "3f2a77",
        "execution": 2,
        "peer": "12D3KooWabcdefghijkl",
    }
    return node


def test_ssh_gets_a_way_in_and_its_own_arguments_and_ends_for_us(service: ScriptedDaemon, tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text(FAKE)
    (tmp_path / "ssh").chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    del env["DMS_PASSPHRASE"]  # is asked for once, not by the command in between
    command = nunet_command("ssh", "3f2a", "box", "-l", "root", "--", "-v", "uptime")
    done = subprocess.run(
        command,
        env=env | {"DMS_PASSPHRASE": service.passphrase},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 7, done.stderr
    words = done.stdout.splitlines()
    assert words[-4:] == ["n1.box", "-v", "uptime", "HELLO"]
    assert words[words.index("-l") + 1] == "root"
    assert "HostKeyAlias=n1.box.abcdefghijkl.2" in words
    assert f'UserKnownHostsFile="{service.user_dir}/ssh/3f2a77"' in words
    assert (service.user_dir / "ssh").stat().st_mode & 0o777 == 0o700
    assert len(service.payloads_of(BEHAVIOUR)) == 1


def test_a_key_is_remembered_for_one_execution_on_one_machine() -> None:
    alias = host_key_alias("n1.box", "12D3KooWabcdefghijkl", 1)
    assert alias == "n1.box.abcdefghijkl.1"
    assert len({alias, host_key_alias("n1.box", "12D3KooWabcdefghijkl", 2), host_key_alias("n1.box", "x", 1)}) == 3


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh; enable with: apt-get install -y openssh-client")
def test_ssh_understands_what_it_is_given(tmp_path: Path) -> None:
    known = tmp_path / "with space %h"
    proxy = ["/bin/nu net", "--stdio", "100%"]
    command = ssh_command(shutil.which("ssh") or "", proxy, "n1.box.x.1", known, "root")
    told = subprocess.run([*command, "-G", "n1.box"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "hostkeyalias n1.box.x.1" in told
    assert "user root" in told
    assert f"userknownhostsfile {known}" in told or f'userknownhostsfile "{known}"' in told
    assert "proxycommand '/bin/nu net' --stdio 100%%" in told


def test_without_ssh_it_says_so(nunet: Nunet, node: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    done = nunet("ssh", "3f2a", "box")
    assert (done.code, done.err.splitlines()[0]) == (4, "Error: there is no ssh on this machine")
