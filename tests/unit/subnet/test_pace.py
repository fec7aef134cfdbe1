from __future__ import annotations

from dms.subnet.pace import BUSY_BYTES, BUSY_PACKETS, SPAN_S, Pace


def test_questions_and_answers_do_not_wait() -> None:
    pace = Pace()
    for number in range(500):
        pace.observe(number * SPAN_S / 20, 2 * number, 200 * number)
        assert not pace.is_busy


def test_where_much_passes_packets_wait_for_company_until_it_passed() -> None:
    pace = Pace()

    def is_busy_at(spans: float, packets: int, size_bytes: int) -> bool:
        pace.observe(spans * SPAN_S, packets, size_bytes)
        return pace.is_busy

    assert not is_busy_at(0, 0, 0)
    assert is_busy_at(1, 4, 2 * BUSY_BYTES)
    assert is_busy_at(1.5, 4, 2 * BUSY_BYTES), "a span is looked at as a whole"
    assert not is_busy_at(2.1, 6, 2 * BUSY_BYTES + 100)
    assert is_busy_at(3.2, 6 + 2 * BUSY_PACKETS, 2 * BUSY_BYTES + 200), "many small ones, too"
    assert not is_busy_at(103, 6 + 4 * BUSY_PACKETS, 4 * BUSY_BYTES), "as much in a hundred spans is little"
