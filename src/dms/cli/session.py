"""What one command line is about: which node, which keys, which settings.

Made from the global options. Without ``--network`` they come from the settings (flags over environment over file);
with it, the profile says where the node answers and who the person is, and explicit flags still win.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dms.cli.networks import DEFAULT_NAME, FILE_VARIABLE, load_profile
from dms.devnet.profile import DEFAULT_CONTEXT, NetworkProfile, NodeProfile
from dms.types.errors import BadInput

if TYPE_CHECKING:
    import typer

    from dms.cli.client import Client
    from dms.config import Settings


class Session:
    """Global options, and what follows from them, each computed when it is first asked for."""

    def __init__(self, ctx: typer.Context, env: Mapping[str, str] = os.environ) -> None:
        self._ctx = ctx
        self._options: Mapping[str, Any] = ctx.find_root().params  # Any: what the framework made of the options
        self._env = env

    @classmethod
    def of(cls, ctx: typer.Context) -> Session:
        """The session of a running command, one for all who ask."""
        root = ctx.find_root()
        if not isinstance(root.obj, cls):
            root.obj = cls(ctx)
        return root.obj

    @property
    def is_debug(self) -> bool:
        """Whether tracebacks are wanted."""
        return bool(self._options.get("debug"))

    @cached_property
    def profile(self) -> NetworkProfile | None:
        """The network that is addressed, if one is.

        :raises DMSError: it does not exist, or ``--node`` was given without one.
        """
        name = self._options.get("network") or ""
        if not name and self._env.get(FILE_VARIABLE):
            name = DEFAULT_NAME
        if name:
            return load_profile(name, self._env)
        if self._options.get("node"):
            raise BadInput("--node needs a network", hint="nunet --network devnet --node node1 …")
        return None

    @cached_property
    def node(self) -> NodeProfile | None:
        """The node of the network that is addressed."""
        return None if self.profile is None else self.profile.node(self._options.get("node"))

    @property
    def config_file(self) -> Path | None:
        """The configuration file that was named, or that of the node of a network; ``None``: it is to be searched for."""
        if given := self._options.get("config"):
            return Path(given)
        return Path(self.node.config) if self.node and self.node.config else None

    @cached_property
    def settings(self) -> Settings:
        """All settings: of the node where a network is addressed, else of this user.

        :raises ConfigError: they cannot be used.
        """
        from dms.config import load_settings

        return load_settings(self.config_file, self._flags, self._env)

    @property
    def rest_addr(self) -> str:
        """Where the REST server of the node listens."""
        return str(self._options.get("rest_addr") or (self.node.rest_addr if self.node else self.settings.rest.addr))

    @property
    def rest_port(self) -> int:
        """Its port."""
        return int(self._options.get("rest_port") or (self.node.rest_port if self.node else self.settings.rest.port))

    @property
    def user_dir(self) -> Path:
        """Where the keys and capability contexts of the person lie."""
        if given := self._options.get("user_dir"):
            return Path(given).expanduser()
        return Path(self.profile.user_dir) if self.profile else self.settings.general.user_dir

    def context(self, given: str | None, default: str = DEFAULT_CONTEXT) -> str:
        """The name of the context: as given, else that of the network's person, else ``default``."""
        if given:
            return given
        return self.profile.user_context if self.profile else default

    def passphrase(self, *, new: bool = False) -> str:
        """From ``DMS_PASSPHRASE``, the network's profile, or whoever sits at the terminal; a new one is asked for twice.

        :raises PassphraseFailed: from nowhere.
        """
        from dms.cli.prompts import ask_passphrase

        if self.profile is not None and not self._env.get("DMS_PASSPHRASE") and (known := self.profile.passphrase()):
            return known
        return ask_passphrase(new=new)

    def client(self, context: str | None = None) -> Client:
        """A client of the node that acts for a context, which is opened when the first message is made.

        :raises DMSError: the options contradict each other.
        """
        from dms.cli.client import Client
        from dms.cli.identity import open_context
        from dms.cli.rest import Rest

        hint = "start the network with nunet devnet up" if self.profile else "start it with nunet run"
        rest = Rest(self.rest_addr, self.rest_port, not_running_hint=hint)
        name = self.context(context)
        return Client(rest, lambda: open_context(self._ctx, name))

    def peer_name(self, peer: str) -> str:
        """A peer for people: its name in this network, else the end of its id."""
        for node in self.profile.nodes if self.profile else ():
            if node.peer_id == peer:
                return node.name
        return f"…{peer[-8:]}" if len(peer) > 12 else peer

    @property
    def _flags(self) -> dict[str, object]:
        flags: dict[str, object] = {
            "rest.addr": self._options.get("rest_addr"),
            "rest.port": self._options.get("rest_port"),
            "general.user_dir": self._options.get("user_dir"),
        }
        return flags | ({"general.debug": True} if self.is_debug else {})
