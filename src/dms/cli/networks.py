"""Profiles of whole networks: where each node answers, and who the person is that all of them obey.

``nunet devnet up`` writes one when it has started a network; ``--network devnet`` (or ``DMS_NETWORK``) makes every
other command address its nodes. ``DMS_NETWORK_FILE`` names a profile that lies elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dms.cli.errors import BadProfile, NetworkNotFound
from dms.types import gojson
from dms.types.errors import BadInput, BadJSON
from dms.types.gojson import Wire

FILE_NAME = "network.json"
FILE_VARIABLE = "DMS_NETWORK_FILE"
DEFAULT_NAME = "devnet"
DEFAULT_CONTEXT = "user"


class NodeProfile(Wire):
    """One node: where it answers and what it is. Paths are absolute."""

    name: str
    rest_addr: str
    rest_port: int
    peer_id: str
    did: str = ""
    user_dir: str = ""
    config: str = ""
    pid: int = 0


class NetworkProfile(Wire, kw_only=True):
    """A network; ``user_dir`` holds the key and the capabilities of the person, ``passphrase_file`` what opens them."""

    name: str
    dir: str
    default_node: str
    user_context: str = DEFAULT_CONTEXT
    nodes: tuple[NodeProfile, ...]
    user_dir: str
    passphrase_file: str = ""

    def node(self, which: str | None) -> NodeProfile:
        """A node by name or number (from 1); without one, the default.

        :raises BadInput: there is no such node; the hint names all.
        """
        wanted = which or self.default_node
        for number, node in enumerate(self.nodes, start=1):
            if wanted in (node.name, str(number)):
                return node
        names = ", ".join(node.name for node in self.nodes) or "none"
        raise BadInput(f"the network {self.name} has no node {wanted}", hint=f"its nodes are {names}")

    def passphrase(self) -> str:
        """What opens the keys of this network; empty when the profile tells none.

        :raises BadProfile: its file cannot be read.
        """
        if not self.passphrase_file:
            return ""
        try:
            return Path(self.passphrase_file).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise BadProfile(f"cannot read the passphrase of the network {self.name}: {exc}") from None


def profile_path(name: str, env: Mapping[str, str] = os.environ) -> Path:
    """Where the profile of a network lies.

    :raises BadInput: ``name`` cannot be the name of one.
    """
    if given := env.get(FILE_VARIABLE):
        return Path(given)
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise BadInput(f"{name!r} cannot be the name of a network", hint=f"the local one is called {DEFAULT_NAME}")
    from platformdirs import user_state_dir

    return Path(user_state_dir("nunet")) / name / FILE_NAME


def load_profile(name: str, env: Mapping[str, str] = os.environ) -> NetworkProfile:
    """Read a profile.

    :raises NetworkNotFound: there is none.
    :raises BadProfile: it is damaged.
    """
    path = profile_path(name, env)
    try:
        profile = gojson.decode(path.read_bytes(), NetworkProfile)
    except FileNotFoundError:
        hint = "start one with nunet devnet up" if name == DEFAULT_NAME else f"the local one is called {DEFAULT_NAME}"
        raise NetworkNotFound(f"there is no network {name} here: no file {path}", hint=hint) from None
    except OSError as exc:
        raise BadProfile(f"cannot read {path}: {exc.strerror}") from None
    except BadJSON as exc:
        raise BadProfile(f"{path}: {exc.message}") from None
    if not profile.nodes:
        raise BadProfile(f"{path}: the network has no nodes")
    return profile
