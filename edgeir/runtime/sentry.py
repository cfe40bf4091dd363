"""A watch on what a network gives: NaN, infinity, and one flat colour where the picture has more than one.

Precision that overflows, a kernel that is wrong on one device, a damaged engine: they show as black, grey or torn
pictures, and users find them. Here every batch is looked at before anybody sees it, bad ones are restored once more by
the bundle's FP32 graph or stop the work, and each is counted and said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import CheckFailed, EdgeIRError, PictureError
from edgeir.imaging.byte_formats import ByteFormat
from edgeir.runtime.session import Bytes, Pictures, Session, run_many

OnBad = Literal["retry", "stop"]
ON_BAD: tuple[OnBad, ...] = ("retry", "stop")

FLAT_SPAN = 1 / 1024
"""A picture whose values lie within this is one colour: a quarter of a step of 8 bits."""
STRUCTURE_SPAN = 2 / 255
"""An input has more than one colour if the means of its parts lie further apart. Noise of sigma 25 on a white sky moves
the means of a 256-pixel tile's 4x4 parts by 1.4/255; the darkest measuring pictures differ by more than 5/255."""
_PARTS = 4


@dataclass(slots=True)
class SentryCount:
    """What was seen.

    Attributes:
        mode: what is done about a bad picture.
        checked: pictures (or tiles) looked at.
        not_finite: of them, with NaN or infinity.
        flat: one colour where the input has more.
        restored_in_fp32: bad ones that the FP32 graph restored.
        flat_in_fp32_too: flat ones that the FP32 graph finds flat as well, so that they stand.
    """

    mode: OnBad
    checked: int = 0
    not_finite: int = 0
    flat: int = 0
    restored_in_fp32: int = 0
    flat_in_fp32_too: int = 0

    @property
    def bad(self) -> int:
        """Pictures that were not taken as they came."""
        return self.not_finite + self.flat

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)

    def sentence(self) -> str | None:
        """For people; ``None`` where nothing was bad."""
        if not self.bad:
            return None
        agreed = f", {self.flat_in_fp32_too} are flat in FP32 too" if self.flat_in_fp32_too else ""
        return (
            f"{self.bad} of {self.checked} outputs were bad ({self.not_finite} not finite, {self.flat} flat): "
            f"{self.restored_in_fp32} were restored once more in FP32{agreed}."
        )


class SentrySession:
    """A session whose outputs are looked at.

    Args:
        inner: the session.
        on_bad: ``"retry"`` once with ``spare``, or ``"stop"``.
        spare: opens the FP32 graph; called at the first bad output.
        say: told of each bad output.
    """

    def __init__(self, inner: Session, *, on_bad: OnBad, spare: Callable[[], Session], say: Callable[[str], None]):
        self._inner = inner
        self._open_spare = spare
        self._spare: Session | None = None
        self._say = say
        self.count = SentryCount(on_bad)

    @property
    def name(self) -> str:
        """Of the session that is watched."""
        return self._inner.name

    def run(self, pictures: Pictures) -> Pictures:
        """Restore a batch, see `edgeir.runtime.session.Session.run`.

        Raises:
            CheckFailed: the output is bad and the mode is to stop, or FP32 gives no finite numbers either.
        """
        (restored,) = self.run_many([pictures])
        return restored

    def beside(self, inner: Session) -> SentrySession:
        """The same watch on another session of the same network: both count together."""
        other = SentrySession(inner, on_bad=self.count.mode, spare=self._open_spare, say=self._say)
        other.count = self.count
        return other

    def run_many(self, batches: Iterable[Pictures]) -> Iterator[Pictures]:
        """As `edgeir.runtime.session.run_many`, every output looked at."""
        given: deque[Pictures] = deque()

        def remembered() -> Iterator[Pictures]:
            for pictures in batches:
                given.append(pictures)
                yield pictures

        for restored in run_many(self._inner, remembered()):
            yield self.looked_at(given.popleft(), restored)

    def close(self) -> None:
        """Close both sessions, where they have anything to close."""
        for session in (self._inner, self._spare):
            if close := getattr(session, "close", None):
                close()

    def looked_at(self, pictures: Pictures, restored: Pictures | None) -> Pictures:
        """What is to be taken for a batch: ``restored``, or FP32's in place of the bad ones.

        Args:
            pictures: what went in.
            restored: what came out; ``None`` where the session says that it is not finite.

        Raises:
            CheckFailed: see `run`.
        """
        self.count.checked += len(pictures)
        if restored is None:
            bad = dict.fromkeys(range(len(pictures)), _NOT_FINITE)
        else:
            bad = {at: what for at in range(len(restored)) if (what := _what_is_bad(pictures[at], restored[at]))}
        if restored is not None and not bad:
            return restored
        self._note(bad)
        again = self._again(pictures)
        result = again.copy() if restored is None else restored.copy()
        for at, what in bad.items():
            self._judge_again(what, pictures[at], again[at])
            result[at] = again[at]
        return result

    def _note(self, bad: dict[int, str]) -> None:
        """Count and say; raise where the mode is to stop."""
        self.count.not_finite += sum(what == _NOT_FINITE for what in bad.values())
        self.count.flat += sum(what == _FLAT for what in bad.values())
        first = next(iter(bad.values()))
        if self.count.mode == "stop":
            raise CheckFailed(
                f"the output is bad: {first}",
                where=self.name,
                fix="--on-bad-output retry restores such pictures in FP32; another --precision may be what is needed.",
            )
        self._say(f"Output {self.count.checked} is bad: {first}. It is restored once more in FP32.")

    def _again(self, pictures: Pictures) -> Pictures:
        if self._spare is None:
            try:
                self._spare = self._open_spare()
            except EdgeIRError as error:
                raise CheckFailed(
                    "the output is bad, and the FP32 graph cannot be opened to restore it once more",
                    where=self.name,
                    got=str(error).rstrip("."),
                ) from error
        return self._spare.run(pictures)

    def _judge_again(self, what: str, picture: Pictures, again: Pictures) -> None:
        found = _what_is_bad(picture, again)
        if found == _NOT_FINITE:
            raise CheckFailed(
                "the output is bad, and in FP32 it is no better: NaN or infinity",
                where=self.name,
                fix="The weights or the picture are at fault, not the precision.",
            )
        if found == _FLAT and what == _FLAT:
            self.count.flat_in_fp32_too += 1
        else:
            self.count.restored_in_fp32 += 1


class ByteRunner(Protocol):
    """What a session of bytes has besides (`edgeir.runtime.byte_session.ByteSession`)."""

    @property
    def form(self) -> ByteFormat:
        """How pictures lie in the bytes."""
        ...

    def run_bytes(self, pictures: Bytes) -> Bytes:
        """``(N, H, W, 3) uint8 -> (N, s*H, s*W, 3) uint8``."""
        ...


class ByteSentry:
    """A session of bytes whose outputs are looked at: bytes cannot be NaN, the session itself says so by an error.

    Args:
        inner: the session, of a format whose pictures are ``(N, H, W, 3)``.
        watch: counts, says and restores once more, in floats.
    """

    def __init__(self, inner: ByteRunner, watch: SentrySession) -> None:
        self._inner = inner
        self._watch = watch

    @property
    def name(self) -> str:
        """Of the session that is watched."""
        return self._watch.name

    @property
    def form(self) -> ByteFormat:
        """How pictures lie in the bytes."""
        return self._inner.form

    def run_bytes(self, pictures: Bytes) -> Bytes:
        """As the session's own; errors are those of `SentrySession.run` instead of a `PictureError`."""
        turned = slice(None, None, -1 if self.form.kind == "bgr" else 1)
        try:
            given: Bytes | None = self._inner.run_bytes(pictures)
        except PictureError:
            given = None  # the session does not say which picture of the batch it is
        restored = None if given is None else _floats(given)[:, turned]
        taken = self._watch.looked_at(_floats(pictures)[:, turned], restored)
        if given is not None and taken is restored:
            return given
        return np.rint(np.clip(taken[:, turned], 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


_NOT_FINITE = "NaN or infinity"
_FLAT = "one flat colour, where the picture has more than one"


def _what_is_bad(picture: NDArray[np.float32], restored: NDArray[np.float32]) -> str | None:
    """Of one picture ``(3, H, W)`` and what was made of it."""
    low, high = float(restored.min()), float(restored.max())  # NaN comes through both
    if not (np.isfinite(low) and np.isfinite(high)):
        return _NOT_FINITE
    if _within_channels(restored) <= FLAT_SPAN and _structure(picture) > STRUCTURE_SPAN:
        return _FLAT
    return None


def _within_channels(picture: NDArray[np.float32]) -> float:
    flat = picture.reshape(len(picture), -1)
    return float((flat.max(axis=1) - flat.min(axis=1)).max())


def _structure(picture: NDArray[np.float32]) -> float:
    """How far the means of the picture's parts lie apart, in the channel where they do most."""
    rows = np.array_split(picture, min(_PARTS, picture.shape[1]), axis=1)
    parts = [part for row in rows for part in np.array_split(row, min(_PARTS, picture.shape[2]), axis=2)]
    means = np.stack([part.mean(axis=(1, 2)) for part in parts])
    return float((means.max(axis=0) - means.min(axis=0)).max())


def _floats(pictures: Bytes) -> Pictures:
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
