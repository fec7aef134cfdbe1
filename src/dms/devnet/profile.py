"""The profile of a network: where each node answers, and who the person is that all of them obey.

Written by :mod:`dms.devnet.network`; every command that is given ``--network`` reads it.
"""

from __future__ import annotations

from pathlib import Path

from dms.devnet.errors import DevnetError
from dms.identity.files import write_private
from dms.types import gojson
from dms.types.errors import BadInput, BadJSON
from dms.types.gojson import Wire

PROFILE_FILE = "network.json"
DEFAULT_CONTEXT = "user"


class BadProfile(BadInput, DevnetError):
    """The profile of the network is damaged."""

    code = "bad_profile"
    default_hint = "start the network anew with nunet devnet up"


class NodeProfile(Wire, kw_only=True):
    """One node: where it answers and what it is. Paths are absolute; ``pid`` is that of its first process."""

    name: str
    rest_addr: str
    rest_port: int
    peer_id: str
    did: str = ""
    user_dir: str = ""
    config: str = ""
    pid: int = 0
    is_provider: bool = False


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


def read_profile(path: Path) -> NetworkProfile:
    """Read a profile.

    :raises BadProfile: it is damaged.
    """
    try:
        profile = gojson.decode(path.read_bytes(), NetworkProfile)
    except OSError as exc:
        raise BadProfile(f"cannot read {path}: {exc.strerror}") from None
    except BadJSON as exc:
        raise BadProfile(f"{path}: {exc.message}") from None
    if not profile.nodes:
        raise BadProfile(f"{path}: the network has no nodes")
    return profile


def write_profile(path: Path, profile: NetworkProfile) -> None:
    """Write a profile, mode 0600."""
    write_private(path, gojson.encode(profile))
