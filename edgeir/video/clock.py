"""When each frame of a video is shown, made of what its file says: missing, faulty and backward times are mended."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

# A time that lies this far before the last is no fault of one frame: a new clock begins there, as where two recordings
# were joined byte by byte. At few frames per second it takes as many steps.
JUMP_S = Fraction(1, 2)
_JUMP_STEPS = 3


class FrameClock:
    """Times of frames in the order they are shown, each later than the one before.

    Args:
        time_base: seconds per tick.
        step: ticks of a frame at the average rate, at least 1.

    Attributes:
        irregular: how many times were missing or not after the one before, and were filled in.
        shifts: for each place where the clock jumps back, the seconds that times from there on are moved by.
    """

    def __init__(self, time_base: Fraction, step: int) -> None:
        self._time_base = time_base
        self._step = step
        self._jump = max(int(JUMP_S / time_base), _JUMP_STEPS * step)
        self._last: int | None = None
        self._last_end = 0
        self._shift = 0
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = self._faulty_dts = 0
        self.irregular = 0
        self.shifts: list[Fraction] = []

    def time_of(self, pts: int | None, dts: int | None, duration: int) -> int:
        """When the next frame is shown, in ticks.

        Args:
            pts: the presentation time that the decoder gives with it.
            dts: the decoding time that it gives with it.
            duration: in ticks, 0 where it is not known.
        """
        guess = self._guess(pts, dts)
        time, last = 0 if guess is None else guess + self._shift, self._last
        if last is not None:
            if guess is not None and last - time > self._jump:
                self._shift += self._last_end - time
                self.shifts.append(self._shift * self._time_base)
                time = self._last_end
            elif guess is None or time <= last:
                self.irregular += 1
                time = last + (self._step if guess is None else 1)
        elif guess is None:
            self.irregular += 1
        self._last, self._last_end = time, time + (duration or self._step)
        return time

    def _guess(self, pts: int | None, dts: int | None) -> int | None:
        """The one of the two that has been at fault less often, as FFmpeg's ``best_effort_timestamp`` is chosen."""
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        return pts if pts is not None and (dts is None or self._faulty_pts <= self._faulty_dts) else dts


class PacketClock:
    """Moves the packets of a stream beside the pictures as those were moved, at its own jumps.

    Args:
        shifts: of the pictures, see `FrameClock.shifts`; without any, nothing is moved or left out.
    """

    def __init__(self, shifts: Sequence[Fraction]) -> None:
        self._shifts = shifts
        self._jumps = 0
        self._shift = Fraction(0)
        self._last: Fraction | None = None
        self._end = Fraction(0)

    def shift_at(self, time_s: Fraction, duration_s: Fraction) -> Fraction | None:
        """What to move the next packet by, in seconds; ``None`` for one to leave out.

        Args:
            time_s: its decoding time.
            duration_s: how long it lasts, 0 where it is not known. After a jump, packets that lie for more than half of
                it where the stretch before still lasts are left out: no container takes times that go back.
        """
        if not self._shifts:
            return Fraction(0)
        if self._last is not None and self._last - time_s > JUMP_S:
            known = self._jumps < len(self._shifts)
            self._shift = self._shifts[self._jumps] if known else self._end - time_s
            self._jumps += 1
        self._last = time_s
        moved = time_s + self._shift
        if self._jumps and moved < self._end - duration_s / 2:
            return None
        self._end = max(self._end, moved + duration_s)
        return self._shift
