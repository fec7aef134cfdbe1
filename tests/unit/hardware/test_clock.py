"""What the kernel says of the clock."""

from __future__ import annotations

import sys

import pytest

from dms.hardware.clock import clock_state


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has adjtimex; run it there")
def test_the_kernel_says_whether_the_clock_is_kept_right() -> None:
    state = clock_state()
    assert state.is_synchronised in (True, False, None)
    assert 0 <= state.max_error_s < 1e6
