"""What listens at the ports of allocations that are only played."""

from __future__ import annotations

import errno
from typing import Never

from dms.node.endpoints import Endpoint


async def nobody_listens(_endpoint: Endpoint) -> Never:
    """:raises ConnectionRefusedError: always."""
    raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
