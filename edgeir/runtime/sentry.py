"""A watch on what a network gives: NaN, infinity, and one flat colour where the picture has more than one.

Precision that overflows, a kernel that is wrong on one device, a damaged engine: they show as black, grey or torn
pictures, and users find them. Here every batch is looked at before anybody sees it, bad ones are restored once more by
the bundle's FP32 graph or stop the work, and each is counted and said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeir.errors import CheckFailed, EdgeIRError, PictureError
from edgeir.imaging.byte_formats import ByteFormat
from edgeir.runtime.session import Bytes, Filled, Pictures, Session, run_many

OnBad = Literal["retry", "stop"]
ON_BAD: tuple[OnBad, ...] = ("retry", "stop")

FLAT_SPAN = 1 / 1024
"""A picture whose values lie within this is one colour: a quarter of a step of 8 bits."""
STRUCTURE_SPAN = 2 / 255
"""An input has more than one colour if the means of its parts lie further apart. Noise of sigma 25 on a white sky moves
the means of a 256-pixel tile's 4x4 parts by 1.4/255; the darkest measuring pictures differ by more than 5/255."""
_PARTS = 4
NOT_FINITE = "NaN or infinity"
FLAT = "one flat colour, where the picture has more than one"


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
        self._spare = _Spare(spare)
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
        """The same watch on another session of the same network: both count together and share the FP32 graph."""
        other = SentrySession(inner, on_bad=self.count.mode, spare=self._spare.opened, say=self._say)
        other.count = self.count
        other._spare = self._spare
        return other

    def run_many(self, batches: Iterable[Pictures]) -> Iterator[Pictures]:
        """As `edgeir.runtime.session.run_many`, every output looked at."""
        return self.run_filled((pictures, len(pictures)) for pictures in batches)

    def run_filled(self, batches: Iterable[Filled]) -> Iterator[Pictures]:
        """As `edgeir.runtime.session.run_filled`: only real pictures are looked at and counted."""
        given: deque[Filled] = deque()

        def remembered() -> Iterator[Pictures]:
            for batch in batches:
                given.append(batch)
                yield batch[0]

        # Closed here, and not when the garbage is: a session in the middle of batches takes no others.
        with closing(run_many(self._inner, remembered())) as outputs:
            for restored in outputs:
                yield self._looked_at(*given.popleft(), restored)

    def close(self) -> None:
        """Close both sessions, where they have anything to close."""
        _close(self._inner)
        self._spare.close()

    def restored_again(
        self, bad: dict[int, str], real: int, pictures: Callable[[], Pictures]
    ) -> dict[int, NDArray[np.float32]]:
        """Count a batch, say what is bad in it, and restore that once more.

        Args:
            bad: places in the batch, and what is bad there (`NOT_FINITE`, `FLAT`).
            real: pictures of the batch that are looked at.
            pictures: what went in, ``(N, 3, H, W)``; asked for where something is bad.

        Returns:
            what FP32 makes of the bad ones, ``(3, s*H, s*W)``, by place.

        Raises:
            CheckFailed: see `run`.
        """
        before = self.count.checked
        self.count.checked += real
        if not bad:
            return {}
        self.count.not_finite += sum(what == NOT_FINITE for what in bad.values())
        self.count.flat += sum(what == FLAT for what in bad.values())
        if self.count.mode == "stop":
            at, what = next(iter(bad.items()))
            raise CheckFailed(
                f"the output is bad: {what}",
                where=self.name,
                got=f"output {before + at + 1}",
                fix="--on-bad-output retry restores such pictures in FP32; another --precision may be what is needed.",
            )
        for at, what in bad.items():
            self._say(f"Output {before + at + 1} is bad: {what}. It is restored once more in FP32.")
        given = pictures()
        again = self._again(given)
        for at, what in bad.items():
            self._judge_again(what, given[at], again[at])
        return {at: again[at] for at in bad}

    def _looked_at(self, pictures: Pictures, real: int, restored: Pictures) -> Pictures:
        """What is to be taken for the real ones of a batch: ``restored``, or FP32's in place of the bad ones."""
        taken = restored[:real]
        bad = {at: what for at in range(real) if (what := _what_is_bad(pictures[at], taken[at]))}
        again = self.restored_again(bad, real, lambda: pictures)
        if again:
            taken = taken.copy()
            for at, output in again.items():
                taken[at] = output
        return taken

    def _again(self, pictures: Pictures) -> Pictures:
        try:
            spare = self._spare.opened()
        except EdgeIRError as error:
            raise CheckFailed(
                "the output is bad, and the FP32 graph cannot be opened to restore it once more",
                where=self.name,
                got=str(error).rstrip("."),
            ) from error
        return spare.run(pictures)

    def _judge_again(self, what: str, picture: Pictures, again: Pictures) -> None:
        found = _what_is_bad(picture, again)
        if found == NOT_FINITE:
            raise CheckFailed(
                "the output is bad, and in FP32 it is no better: NaN or infinity",
                where=self.name,
                fix="The weights or the picture are at fault, not the precision.",
            )
        if found == FLAT and what == FLAT:
            self.count.flat_in_fp32_too += 1
        else:
            self.count.restored_in_fp32 += 1


class _Spare:
    """The FP32 graph, opened when it is first needed, by whichever watch that is."""

    def __init__(self, open_session: Callable[[], Session]) -> None:
        self._open = open_session
        self._session: Session | None = None

    def opened(self) -> Session:
        if self._session is None:
            self._session = self._open()
        return self._session

    def close(self) -> None:
        session, self._session = self._session, None
        _close(session)


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

    Bytes are looked at as they are. Floats are made of a picture only where its output is one colour, or bad.

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
        return self.run_filled_bytes(pictures, len(pictures))

    def run_filled_bytes(self, pictures: Bytes, real: int) -> Bytes:
        """As `edgeir.runtime.byte_session.run_filled_bytes`: only real pictures are looked at and counted."""
        turned = slice(None, None, -1 if self.form.kind == "bgr" else 1)
        given: Bytes | None = None
        try:
            given = self._inner.run_bytes(pictures)[:real]
            flat = [at for at in range(real) if _is_flat(given[at]) and _has_structure(_floats(pictures[at]))]
            bad = dict.fromkeys(flat, FLAT)
        except PictureError:  # it does not say which picture of the batch it is
            bad = dict.fromkeys(range(real), NOT_FINITE)
        again = self._watch.restored_again(bad, real, lambda: _floats(pictures)[:, turned])
        if given is not None and not again:
            return given
        sides = next(iter(again.values())).shape[1:]
        taken = np.empty((real, *sides, 3), np.uint8) if given is None else given.copy()
        for at, output in again.items():
            taken[at] = np.rint(np.clip(output[turned], 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        return taken


def _what_is_bad(picture: NDArray[np.float32], restored: NDArray[np.float32]) -> str | None:
    """Of one picture ``(3, H, W)`` and what was made of it."""
    low, high = float(restored.min()), float(restored.max())  # NaN comes through both
    if not (np.isfinite(low) and np.isfinite(high)):
        return NOT_FINITE
    if _within_channels(restored) <= FLAT_SPAN and _has_structure(picture):
        return FLAT
    return None


def _within_channels(picture: NDArray[np.float32]) -> float:
    flat = picture.reshape(len(picture), -1)
    return float((flat.max(axis=1) - flat.min(axis=1)).max())


def _is_flat(picture: Bytes) -> bool:
    """Of one picture ``(H, W, 3)``: within `FLAT_SPAN`, a quarter of their step, bytes are equal."""
    return bool((picture == picture[0, 0]).all())


def _has_structure(picture: NDArray[np.float32]) -> bool:
    """Whether the means of the parts of ``(3, H, W)`` lie far apart, in the channel where they do most."""
    rows = np.array_split(picture, min(_PARTS, picture.shape[1]), axis=1)
    parts = [part for row in rows for part in np.array_split(row, min(_PARTS, picture.shape[2]), axis=2)]
    means = np.stack([part.mean(axis=(1, 2)) for part in parts])
    return float((means.max(axis=0) - means.min(axis=0)).max()) > STRUCTURE_SPAN


def _floats(pictures: Bytes) -> NDArray[np.float32]:
    """``(..., H, W, 3) uint8 -> (..., 3, H, W) float32``."""
    return np.ascontiguousarray(np.moveaxis(pictures, -1, -3), np.float32) / np.float32(255)


def _close(session: object) -> None:
    if close := getattr(session, "close", None):
        close()
