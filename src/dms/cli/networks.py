"""Profiles of whole networks: where each node answers, and who the person is that all of them obey.

``nunet devnet up`` writes one when it has started a network; ``--network devnet`` (or ``DMS_NETWORK``) makes every
other command address its nodes. ``DMS_NETWORK_FILE`` names a profile that lies elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dms.cli.errors import NetworkNotFound
from dms.devnet.profile import PROFILE_FILE, NetworkProfile, read_profile
from dms.types.errors import BadInput

FILE_VARIABLE = "DMS_NETWORK_FILE"
DEFAULT_NAME = "devnet"


def profile_path(name: str, env: Mapping[str, str] = os.environ) -> Path:
    """Where the profile of a network lies.

    :raises BadInput: ``name`` cannot be the name of one.
    """
    if given := env.get(FILE_VARIABLE):
        return Path(given)
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise BadInput(f"{name!r} cannot be the name of a network", hint=f"the local one is called {DEFAULT_NAME}")
    from platformdirs import user_state_dir

    return Path(user_state_dir("nunet")) / name / PROFILE_FILE


def load_profile(name: str, env: Mapping[str, str] = os.environ) -> NetworkProfile:
    """Read a profile.

    :raises NetworkNotFound: there is none.
    :raises BadProfile: it is damaged.
    """
    path = profile_path(name, env)
    if not path.exists():
        hint = "start one with nunet devnet up" if name == DEFAULT_NAME else f"the local one is called {DEFAULT_NAME}"
        raise NetworkNotFound(f"there is no network {name} here: no file {path}", hint=hint)
    return read_profile(path)


def devnet_dir(given: Path | None, env: Mapping[str, str] = os.environ) -> Path:
    """Where the local network lives: as given, or where its profile lies."""
    return given.absolute() if given else profile_path(DEFAULT_NAME, env).parent
