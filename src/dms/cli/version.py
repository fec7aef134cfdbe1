"""``nunet version``."""

from __future__ import annotations

import platform


def version() -> None:
    """Show the version of the program and of what it runs on.

    Examples:
      nunet version
    """
    from dms import __version__

    print(f"nunet {__version__}")
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
