"""Permissions to bring one file."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from dms.storage.errors import AccessRefused, TooLarge, TransferRefused
from dms.storage.passing.tickets import MAX_TICKETS_PER_TENANT, VALID_S, Ticket, Tickets
from dms.types.ids import PeerID

PEER, OTHER = PeerID("peer"), PeerID("other")


def tickets() -> Tickets:
    numbers = itertools.count(1)
    return Tickets(lambda: f"secret {next(numbers)}")


def issue(where: Tickets, path: str = "file", *, now_s: float = 0.0, tenant: str = "alice") -> Ticket:
    return where.issue(
        peer=PEER, tenant=tenant, volume=Path("/v"), label="data", path=path, size=1, version="1", now_s=now_s
    )


def test_a_ticket_is_used_by_one_at_a_time_and_once() -> None:
    where = tickets()
    ticket = issue(where)
    assert where.redeem(ticket.secret, PEER, 1.0) == ticket
    with pytest.raises(AccessRefused, match="being used"):
        where.redeem(ticket.secret, PEER, 1.0)
    where.give_back(ticket, 2.0)
    where.redeem(ticket.secret, PEER, 3.0)
    where.consume(ticket)
    with pytest.raises(AccessRefused, match="no such"):
        where.redeem(ticket.secret, PEER, 4.0)


def test_nobody_else_can_use_it_nor_later() -> None:
    where = tickets()
    ticket = issue(where)
    with pytest.raises(AccessRefused):
        where.redeem(ticket.secret, OTHER, 0.0)
    with pytest.raises(AccessRefused):
        where.redeem(ticket.secret, PEER, VALID_S)


def test_one_that_is_being_used_does_not_expire_until_it_is_given_back() -> None:
    where = tickets()
    ticket = issue(where)
    where.redeem(ticket.secret, PEER, 0.0)
    issue(where, "another", now_s=2 * VALID_S)
    where.give_back(ticket, 2 * VALID_S)
    with pytest.raises(AccessRefused):
        where.redeem(ticket.secret, PEER, 2 * VALID_S)


def test_a_second_permission_for_a_place_replaces_the_first() -> None:
    where = tickets()
    first, second = issue(where), issue(where)
    with pytest.raises(AccessRefused):
        where.redeem(first.secret, PEER, 0.0)
    where.redeem(second.secret, PEER, 0.0)
    with pytest.raises(TransferRefused, match="already"):
        issue(where)
    where.give_back(second, 1.0)
    issue(where)


def test_a_tenant_has_a_bounded_number() -> None:
    where = tickets()
    for number in range(MAX_TICKETS_PER_TENANT):
        issue(where, f"file {number}")
    with pytest.raises(TooLarge):
        issue(where, "one more")
    issue(where, "one more", tenant="bob")
    issue(where, "one more", now_s=VALID_S)


def test_a_ticket_does_not_print_its_secret() -> None:
    assert "secret" not in repr(issue(tickets()))
