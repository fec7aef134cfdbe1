"""Commands inside an allocation: turn by turn, whatever is lost, and never more than a bound of anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dms.actor.actor import Actor
from dms.allocation.errors import ExecRefused
from dms.allocation.exec import IDLE_S, LINGER_S, MAX_INPUT_BYTES, MAX_OUTPUT_BYTES, MAX_SESSIONS, ExecSessions
from dms.allocation.exec import request_of as asked
from dms.allocation.exec_messages import (
    EXEC_START,
    EXEC_STOP,
    EXEC_TURN,
    ExecAnswer,
    ExecStart,
    ExecStarted,
    ExecStop,
    ExecTurn,
)
from dms.executor.sessions import ExecRequest, ExecSession
from dms.testing.actors import World
from dms.testing.commands import ScriptedCommand


class Desk:
    """An actor that answers for one allocation, and its orchestrator."""

    def __init__(self, actor: Actor, owner: Actor) -> None:
        self.actor, self.owner = actor, owner
        self.commands: list[ScriptedCommand] = []
        ExecSessions(actor, owner.handle.id, self._open).register()

    async def _open(self, request: ExecRequest) -> ExecSession:
        self.commands.append(ScriptedCommand(request))
        return self.commands[-1]

    async def start(self, *words: str, **more: Any) -> str:
        request = ExecStart(command=words, **more)
        answer = await self.owner.invoke(self.actor.handle, EXEC_START, request, ExecStarted)
        assert answer.ok, answer.error
        return answer.session

    async def turn(self, session: str, **more: Any) -> ExecAnswer:
        return await self.owner.invoke(
            self.actor.handle, EXEC_TURN, ExecTurn(session=session, **more), ExecAnswer, timeout_s=60
        )


@pytest.fixture
async def desk(autojump_clock: MockClock) -> AsyncIterator[Desk]:
    async with World().node("provider") as root:
        yield Desk(root, root)


def text(answer: ExecAnswer, stream: str = "stdout") -> bytes:
    return b"".join(piece.data for piece in answer.output if piece.stream == stream)


async def test_what_a_command_says_and_how_it_ends(autojump_clock: MockClock, desk: Desk) -> None:
    session = await desk.start("warn", "to", "you")
    answer = await desk.turn(session, wait_ms=5000)
    assert text(answer, "stderr") == b"to you\n"
    while not answer.ended:
        answer = await desk.turn(session, offset=answer.next_offset, wait_ms=5000)
    assert (answer.exit_code, answer.error, answer.next_offset) == (0, "", 7)
    session = await desk.start("exit", "42")
    answer = await desk.turn(session, wait_ms=5000)
    assert (answer.ended, answer.exit_code) == (True, 42)
    assert desk.commands[-1].is_closed


async def test_a_turn_that_is_lost_is_taken_again_and_nothing_is_said_or_heard_twice(
    autojump_clock: MockClock, desk: Desk
) -> None:
    session = await desk.start("cat", stdin=True)
    for _ in range(2):
        first = await desk.turn(session, input=b"one ", wait_ms=1000)
        assert (text(first), first.next_offset, first.input_taken) == (b"one ", 4, 4)
    later = await desk.turn(session, offset=4, input=b"ne two", input_offset=2, wait_ms=1000)
    while later.next_offset < 8:
        later = await desk.turn(session, offset=4, wait_ms=1000)
    assert (text(later), later.offset, later.input_taken) == (b" two", 4, 8)
    assert text(await desk.turn(session, offset=6)) == b"wo", "what the caller has is dropped"
    answer = await desk.turn(session, offset=8, input_offset=8, input_end=True, wait_ms=5000)
    while not answer.ended:
        answer = await desk.turn(session, offset=8, wait_ms=5000)
    assert answer.exit_code == 0


async def test_input_with_a_gap_is_not_taken(autojump_clock: MockClock, desk: Desk) -> None:
    session = await desk.start("cat", stdin=True)
    answer = await desk.turn(session, input=b"later", input_offset=9)
    assert (answer.input_taken, answer.output) == (0, ())


async def test_a_command_that_says_more_than_its_caller_takes_stands_still(
    autojump_clock: MockClock, desk: Desk
) -> None:
    session = await desk.start("yes")
    await trio.sleep(10)
    said = desk.commands[-1].said_bytes
    assert MAX_OUTPUT_BYTES <= said <= MAX_OUTPUT_BYTES + 2**14
    answer = await desk.turn(session)
    assert len(text(answer)) == said
    await desk.turn(session, offset=answer.next_offset, wait_ms=10)
    await trio.sleep(10)
    assert desk.commands[-1].said_bytes <= answer.next_offset + MAX_OUTPUT_BYTES + 2**14


async def test_a_caller_that_takes_everything_never_waits_for_what_it_has_just_made_room_for(
    autojump_clock: MockClock, desk: Desk
) -> None:
    session, offset, begun = await desk.start("yes"), 0, trio.current_time()
    while offset < 20 * MAX_OUTPUT_BYTES:
        answer = await desk.turn(session, offset=offset, wait_ms=10_000)
        assert text(answer)
        offset = answer.next_offset
    assert trio.current_time() - begun < 5


async def test_input_that_the_command_does_not_take_is_taken_up_to_a_bound(
    autojump_clock: MockClock, desk: Desk
) -> None:
    session = await desk.start("sleep", stdin=True)
    begun = trio.current_time()
    piece = b"x" * 200_000
    first = await desk.turn(session, input=piece, is_deaf=True)
    second = await desk.turn(session, input=piece, input_offset=200_000, is_deaf=True, wait_ms=3000)
    assert (first.input_taken, second.input_taken) == (200_000, MAX_INPUT_BYTES)
    assert 3 <= trio.current_time() - begun < 4, "it waited for room"


async def test_the_terminal_takes_another_size(autojump_clock: MockClock, desk: Desk) -> None:
    session = await desk.start("size", stdin=True, tty=True, rows=30, columns=90)
    assert text(await desk.turn(session, input=b"?", wait_ms=1000)) == b"30x90\n"
    answer = await desk.turn(session, offset=6, input=b"?", input_offset=1, rows=50, columns=99999, wait_ms=1000)
    assert text(answer) == b"50x4096\n"


async def test_a_caller_that_has_gone_takes_its_command_along(autojump_clock: MockClock, desk: Desk) -> None:
    session = await desk.start("sleep")
    await trio.sleep(IDLE_S - 1)
    assert not (await desk.turn(session)).ended
    await trio.sleep(IDLE_S + 1)
    assert desk.commands[-1].is_closed
    answer = await desk.turn(session)
    assert (answer.ended, answer.error) == (True, "nothing was heard from whoever asked for it")
    await trio.sleep(LINGER_S)
    gone = await desk.turn(session)
    assert (gone.ok, gone.error) == (False, "the command is not running any more")


async def test_a_command_can_be_ended(autojump_clock: MockClock, desk: Desk) -> None:
    session = await desk.start("sleep")
    answer = await desk.owner.invoke(desk.actor.handle, EXEC_STOP, ExecStop(session=session), ExecAnswer)
    assert answer.ok
    answer = await desk.turn(session, wait_ms=1000)
    assert (answer.ended, answer.exit_code, answer.error) == (True, -1, "the command was ended")


async def test_only_so_many_run_at_once(autojump_clock: MockClock, desk: Desk) -> None:
    sessions = [await desk.start("sleep") for _ in range(MAX_SESSIONS)]
    request = ExecStart(command=("sleep",))
    refused = await desk.owner.invoke(desk.actor.handle, EXEC_START, request, ExecStarted)
    assert (refused.ok, refused.error) == (False, "8 commands run in this allocation already")
    await desk.owner.invoke(desk.actor.handle, EXEC_STOP, ExecStop(session=sessions[0]), ExecAnswer)
    await trio.sleep(0.1)
    await desk.start("sleep")


async def test_nobody_but_the_orchestrator_gets_in(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node("provider") as root, world.node("other") as other:
        desk = Desk(root, other)
        refused = await root.invoke(desk.actor.handle, EXEC_START, ExecStart(command=("sleep",)), ExecStarted)
        assert refused.error == "only the orchestrator of this allocation may run commands in it"
        turn = await root.invoke(desk.actor.handle, EXEC_TURN, ExecTurn(session="x"), ExecAnswer)
        assert turn.error == refused.error


async def test_a_command_that_is_not_there(autojump_clock: MockClock, desk: Desk) -> None:
    request = ExecStart(command=("nothing",))
    answer = await desk.owner.invoke(desk.actor.handle, EXEC_START, request, ExecStarted)
    assert (answer.ok, answer.error) == (False, "nothing: not found")


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (ExecStart(), "there is no command"),
        (ExecStart(command=None), "there is no command"),
        (ExecStart(command=("", "x")), "there is no command"),
        (ExecStart(command=("x",) * 1025), "too long"),
        (ExecStart(command=("x" * 131072,)), "too long"),
        (ExecStart(command=("a\0b",)), "zero byte"),
    ],
)
def test_what_is_no_command_is_refused(start: ExecStart, why: str) -> None:
    with pytest.raises(ExecRefused, match=why):
        asked(start)


@pytest.mark.parametrize("side", [0, -5, 10**9])
def test_a_terminal_of_no_size_gets_the_usual_one(side: int) -> None:
    made = asked(ExecStart(command=("sh",), tty=True, rows=side, columns=side))
    assert (made.rows, made.columns) == (24, 80)
