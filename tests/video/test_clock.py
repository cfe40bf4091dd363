"""Times of frames that are missing, faulty or jump back, and of the packets beside them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeir.video.clock import FrameClock, PacketClock

TICKS = Fraction(1, 1000)
STEP = 40


def times(pts: list[int | None], dts: list[int | None] | None = None) -> tuple[list[int], FrameClock]:
    clock = FrameClock(TICKS, STEP)
    given_dts = dts or [None] * len(pts)
    return [clock.time_of(one, other, STEP) for one, other in zip(pts, given_dts, strict=True)], clock


@pytest.mark.parametrize(
    ("pts", "expected", "irregular"),
    [
        ([0, 40, 80], [0, 40, 80], 0),
        ([120, 160, 1000], [120, 160, 1000], 0),  # a gap stays
        ([None, None, None], [0, 40, 80], 3),
        ([100, None, 180], [100, 140, 180], 1),
        ([0, 40, 40, 41, 120], [0, 40, 41, 42, 120], 2),  # one tick behind the one before
        ([400, 0], [400, 401], 1),  # half a second back, or less, is a fault of one frame
    ],
)
def test_times_that_are_missing_or_faulty(pts: list[int | None], expected: list[int], irregular: int) -> None:
    found, clock = times(pts)
    assert (found, clock.irregular, clock.shifts) == (expected, irregular, [])


def test_a_clock_that_jumps_back_goes_on() -> None:
    found, clock = times([1000, 1040, 0, 40, 80, 600, 0, 40])
    assert found == [1000, 1040, 1080, 1120, 1160, 1680, 1720, 1760]
    assert clock.shifts == [Fraction(1080, 1000), Fraction(1720, 1000)]
    assert clock.irregular == 0


def test_few_frames_per_second_do_not_jump() -> None:
    """A frame that is one step late is no new clock, however long a step is."""
    clock = FrameClock(TICKS, 1000)
    assert [clock.time_of(pts, None, 1000) for pts in (0, 1000, 2000, 1000, 4000)] == [0, 1000, 2000, 2001, 4000]
    assert clock.shifts == []


def test_decoding_times_stand_in_for_worse_presentation_times() -> None:
    """As FFmpeg's best effort: the kind that went back less often is believed."""
    found, clock = times([1, 160, 120, 200, 80], [80, 120, 165, 205, 245])
    assert (found, clock.irregular) == ([1, 160, 165, 205, 245], 0)
    found, clock = times([None, None, None], [80, 120, 160])
    assert (found, clock.irregular) == ([80, 120, 160], 0)
    found, clock = times([0, 40, 80], [7, 7, 7])
    assert found == [0, 40, 80]


@given(st.lists(st.tuples(st.none() | st.integers(-3000, 3000), st.none() | st.integers(-3000, 3000)), max_size=30))
def test_each_is_later_than_the_one_before(stamps: list[tuple[int | None, int | None]]) -> None:
    found, _ = times([pts for pts, _ in stamps], [dts for _, dts in stamps])
    assert all(before < after for before, after in pairwise(found))


def moved(shifts: list[Fraction], stamps: list[int]) -> list[int | None]:
    """Times of packets of 20 ms after `PacketClock`, in ms."""
    clock = PacketClock(shifts)
    found = []
    for stamp in stamps:
        shift = clock.shift_at(stamp * TICKS, 20 * TICKS)
        found.append(None if shift is None else round((stamp * TICKS + shift) / TICKS))
    return found


def test_packets_move_with_the_pictures() -> None:
    shifts = [Fraction(2), Fraction(5)]
    assert moved(shifts, [1960, 1980, 0, 20, 2900, 0, 20]) == [1960, 1980, 2000, 2020, 4900, 5000, 5020]
    assert moved([], [1960, 1980, 0, 20]) == [1960, 1980, 0, 20]


def test_packets_that_overlap_at_a_jump_are_left_out() -> None:
    """More than half of the packet: two clocks round otherwise."""
    assert moved([Fraction(2)], [1980, 2000, 2020, 0, 20, 31, 60]) == [1980, 2000, 2020, None, None, 2031, 2060]


def test_a_jump_of_its_own_goes_on_after_the_last_packet() -> None:
    assert moved([Fraction(2)], [1980, 0, 900, 100, 120]) == [1980, 2000, 2900, 2920, 2940]
