"""Commands that are run to their end, for those who talk with them."""

from __future__ import annotations

import pytest

from dms.executor.errors import Unsupported
from dms.executor.protocol import ExecOutput
from dms.executor.sessions import ExecRequest, WholeCommand


async def run() -> ExecOutput:
    return ExecOutput(3, b"out", b"err")


async def test_a_command_that_was_run_to_its_end_says_everything_then() -> None:
    session = WholeCommand.of("qemu", ExecRequest("e", ("ls",)), run)
    await session.send(b"nobody reads this")
    await session.end_input()
    await session.resize(1, 1)
    assert [await session.receive() for _ in range(3)] == [("stdout", b"out"), ("stderr", b"err"), None]
    assert await session.receive() is None
    assert await session.exit_code() == 3
    await session.aclose()


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        (ExecRequest("e", ("sh",), has_input=True), "no input"),
        (ExecRequest("e", ("sh",), tty=True), "no terminal"),
    ],
)
def test_more_than_that_is_refused_before_it_runs(request_: ExecRequest, what: str) -> None:
    with pytest.raises(Unsupported, match=f"commands inside a qemu workload get {what}") as refused:
        WholeCommand.of("qemu", request_, run)
    assert refused.value.hint == "leave -i and -t out"
