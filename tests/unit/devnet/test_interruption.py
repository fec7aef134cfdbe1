"""Signals that wait until they are asked for."""

from __future__ import annotations

import signal
import threading

import pytest

from dms.devnet.interruption import SIGNALS, Interruption


def test_ctrl_c_is_raised_where_it_is_asked_for_and_only_once() -> None:
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
        interruption.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_the_process_with_the_usual_code(number: signal.Signals) -> None:
    with Interruption() as interruption:
        signal.raise_signal(number)
        with pytest.raises(SystemExit) as ending:
            interruption.check()
    assert ending.value.code == 128 + number


def test_what_was_not_asked_for_is_raised_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGINT)


def test_an_error_is_not_replaced_by_a_signal_that_came_while_it_was_handled() -> None:
    def fail() -> None:
        with Interruption():
            signal.raise_signal(signal.SIGINT)
            raise LookupError

    with pytest.raises(LookupError):
        fail()


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_in_another_thread_there_is_nothing_to_wait_for() -> None:
    def work() -> None:
        with Interruption() as interruption:
            interruption.check()
            done.append(1)

    done: list[int] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [1]
