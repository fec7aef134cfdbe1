"""Events wait their turn, and nobody waits for one that will never be taken."""

import trio

from dms.orchestrator.inbox import Inbox
from dms.orchestrator.lifecycle.events import Begun


async def test_events_are_taken_in_the_order_in_which_they_were_posted() -> None:
    inbox = Inbox()
    first, second = inbox.post(Begun(at_ns=1)), inbox.post(Begun(at_ns=2))
    posted = await inbox.receive()
    assert posted.event == Begun(at_ns=1)
    assert (posted.taken, first.is_set(), second.is_set()) == (first, False, False)
    assert (await inbox.receive()).event == Begun(at_ns=2)


async def test_whoever_waits_for_an_event_goes_on_when_the_deployment_ends_before_it_is_taken() -> None:
    inbox = Inbox()
    waiting = inbox.post(Begun(at_ns=1))
    inbox.close()
    with trio.fail_after(5):
        await waiting.wait()
        await inbox.post(Begun(at_ns=2)).wait()
