"""How a video ended: whole, cut off, or with damaged parts."""

from __future__ import annotations

from dataclasses import dataclass

# Containers whose header says how long the file is. Others are measured as far as they go, so that an end that is
# missing cannot be seen.
DECLARES_LENGTH = frozenset({"mov", "mp4", "matroska", "webm", "avi", "flv", "asf"})


@dataclass(frozen=True, slots=True)
class Ending:
    """What was there when the file came to its end.

    Attributes:
        frames: pictures decoded.
        end_s: when the last of them ends, in seconds from the file's own zero.
        declared_s: when the file says that it ends, ``None`` where it does not.
        damaged: frames that could not be decoded, or only in part, as far as the decoder notices.
        cut: the file ends before it says it does, or could not be read further.
        reason: what reading said where it could not go on, or ``""``.
    """

    frames: int
    end_s: float
    declared_s: float | None
    damaged: int
    cut: bool
    reason: str = ""

    @property
    def whole(self) -> bool:
        """Whether everything was there."""
        return not self.cut and self.damaged == 0

    def damage(self) -> str:
        """How much is damaged, as a clause: ``"1 frame is damaged or missing"``."""
        return f"{self.damaged} {'frame is' if self.damaged == 1 else 'frames are'} damaged or missing"

    def sentence(self) -> str:
        """What is missing, as a clause: ``"it is cut off after 57 frames, at 2.280 s of 4.000 s"``."""
        parts = []
        frames = f"{self.frames} frame{'' if self.frames == 1 else 's'}"
        if self.cut:
            of = "" if self.declared_s is None else f" of {self.declared_s:.3f} s"
            parts.append(f"it is cut off after {frames}, at {self.end_s:.3f} s{of}")
        if self.damaged:
            parts.append(self.damage())
        text = " and ".join(parts) or f"it is whole, {frames}"
        return f"{text} ({self.reason})" if self.reason else text


def is_cut(container: str, *, end_s: float, declared_s: float | None, frame_s: float) -> bool:
    """Whether a file ends before its header says.

    Args:
        container: FFmpeg's names of the format, separated by commas.
        end_s: when the last packet of the longest stream ends.
        declared_s: when the header says that it does.
        frame_s: how long a frame takes. One and a half of them may be missing: some containers do not store how long
            the last one is shown.
    """
    if declared_s is None or not DECLARES_LENGTH & set(container.split(",")):
        return False
    return end_s < declared_s - 1.5 * frame_s
