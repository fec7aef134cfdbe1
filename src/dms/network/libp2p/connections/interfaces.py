"""Notices when this machine's addresses change: another wireless network, a cable, a lease.

On Linux the kernel tells (a netlink socket, which needs no rights); elsewhere, and in case it does not, the addresses are
compared now and then.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import trio

from dms.network.addresses import IPAddress, interface_addresses

POLL_S = 30.0
PAUSE_S = 5.0
"""After a change nothing is looked at for so long: each one is told to every peer."""
SETTLE_S = 1.0
"""Addresses come and go in groups: a lease is given back and taken again, a bridge comes with its ports."""

_RTMGRP_IPV4_IFADDR = 0x10
_RTMGRP_IPV6_IFADDR = 0x100
_MAX_NEWS_BYTES = 65536

Read = Callable[[], list[IPAddress]]
Changed = Callable[[frozenset[IPAddress]], None]


async def watch_addresses(
    changed: Changed, *, read: Read = interface_addresses, poll_s: float = POLL_S, settle_s: float = SETTLE_S
) -> None:
    """Call ``changed`` with the addresses that are gone whenever those by which others could reach us are not what they were."""
    before = _meaningful(read())
    with _open_news() as news:
        while True:
            with trio.move_on_after(poll_s) as waited:
                await _wait_for_news(news)
            if not waited.cancelled_caught:
                await trio.sleep(settle_s)
            now = _meaningful(read())
            if now != before:
                gone, before = before - now, now
                changed(gone)
                await trio.sleep(PAUSE_S)


def _meaningful(addresses: list[IPAddress]) -> frozenset[IPAddress]:
    return frozenset(one for one in addresses if not (one.is_loopback or one.is_link_local))


def _open_news() -> socket.socket:
    """A socket that becomes readable when an address changes; where there is none such, one that never does."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is not None:
        with suppress(OSError):
            news = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
            try:
                news.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
            except OSError:
                news.close()
                raise
            return news
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


async def _wait_for_news(news: socket.socket) -> None:
    if news.family != getattr(socket, "AF_NETLINK", None):
        await trio.sleep_forever()
    await trio.lowlevel.wait_readable(news)
    with suppress(OSError):  # one that was overrun has lost news, which is news as well
        while news.recv(_MAX_NEWS_BYTES):
            pass
