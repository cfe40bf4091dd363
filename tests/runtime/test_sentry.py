"""Bad outputs are seen, restored once more or stopped, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeir.errors import CheckFailed, MissingDependency, PictureError
from edgeir.imaging.byte_formats import ByteFormat
from edgeir.runtime.byte_session import run_filled_bytes
from edgeir.runtime.sentry import FLAT, NOT_FINITE, ByteSentry, SentryCount, SentrySession
from edgeir.runtime.session import run_filled


class Network:
    """Gives ``1 - x / 2``, spoilt by a function."""

    name = "network"

    def __init__(self, spoil: Callable[[np.ndarray], object] = lambda restored: None) -> None:
        self.spoil = spoil
        self.runs = 0
        self.closed = False

    def run(self, pictures: np.ndarray) -> np.ndarray:
        self.runs += 1
        restored = 1 - pictures / 2
        self.spoil(restored)
        return np.asarray(restored, np.float32)

    def close(self) -> None:
        self.closed = True


def put(value: float) -> Callable[[np.ndarray], object]:
    return lambda restored: restored[-1, 0].__setitem__((2, 3), value)


def flatten(restored: np.ndarray) -> None:
    restored[-1] = 0.25


def scene(batch: int = 2) -> np.ndarray:
    ramp = np.linspace(0, 1, 16, dtype=np.float32)
    noise = 0.1 * np.random.default_rng(0).random((batch, 3, 16, 16), dtype=np.float32)
    return np.asarray(noise + ramp * 0.8, np.float32)


def watched(network: Any, mode: str = "retry", spare: Callable[[], Any] = Network) -> tuple[SentrySession, list[str]]:
    said: list[str] = []
    return SentrySession(network, on_bad=mode, spare=spare, say=said.append), said  # type: ignore[arg-type]


SPOILT = {"nan": put(np.nan), "infinity": put(np.inf), "minus infinity": put(-np.inf), "flat": flatten}


@pytest.mark.parametrize("how", SPOILT)
def test_a_bad_output_is_restored_in_fp32(how: str) -> None:
    network, spare = Network(SPOILT[how]), Network()
    sentry, said = watched(network, spare=lambda: spare)
    pictures = scene()
    restored = sentry.run(pictures)
    np.testing.assert_array_equal(restored, 1 - pictures / 2)
    assert (network.runs, spare.runs) == (1, 1)
    flat = how == "flat"
    assert sentry.count == SentryCount(
        "retry", checked=2, not_finite=0 if flat else 1, flat=int(flat), restored_in_fp32=1
    )
    assert said == [
        f"Output 2 is bad: {'one flat colour, where the picture has more than one' if flat else 'NaN or infinity'}. "
        "It is restored once more in FP32."
    ]
    summary = sentry.count.sentence()
    assert summary is not None
    assert summary.startswith("1 of 2 outputs were bad")


@pytest.mark.parametrize("how", SPOILT)
def test_or_it_stops(how: str) -> None:
    sentry, _ = watched(Network(SPOILT[how]), "stop")
    with pytest.raises(CheckFailed, match=r"network: the output is bad: .*--on-bad-output retry") as caught:
        sentry.run(scene())
    assert caught.value.exit_code == 1
    assert sentry.count.bad == 1


def test_good_outputs_pass_as_they_are() -> None:
    opened: list[Network] = []

    def spare() -> Network:
        opened.append(Network())
        return opened[-1]

    sentry, said = watched(Network(), spare=spare)
    for pictures in (scene(), np.zeros((1, 3, 16, 16), np.float32), np.ones((1, 3, 3, 2), np.float32)):
        np.testing.assert_array_equal(sentry.run(pictures), 1 - pictures / 2)
    assert sentry.count == SentryCount("retry", checked=4)
    assert sentry.count.sentence() is None
    assert (opened, said) == ([], [])


def test_noise_on_one_colour_is_no_structure() -> None:
    noise = np.random.default_rng(0).normal(0, 25 / 255, (1, 3, 256, 256)).astype(np.float32)
    white = np.clip(1 + noise, 0, 1)
    sentry, _ = watched(Network(flatten))
    assert np.ptp(sentry.run(white)) == 0  # a white sky may come out white
    assert sentry.count.bad == 0


def test_a_dark_picture_has_structure() -> None:
    sentry, _ = watched(Network(flatten))
    sentry.run(scene(1) * 0.04)
    assert sentry.count.flat == 1


def test_where_fp32_agrees_it_stands() -> None:
    sentry, _ = watched(Network(flatten), spare=lambda: Network(flatten))
    assert np.ptp(sentry.run(scene(1))) == 0
    assert sentry.count == SentryCount("retry", checked=1, flat=1, flat_in_fp32_too=1)
    assert "0 were restored once more in FP32, 1 are flat in FP32 too" in (sentry.count.sentence() or "")


def test_where_fp32_is_no_better_it_stops() -> None:
    sentry, _ = watched(Network(put(np.nan)), spare=lambda: Network(put(np.inf)))
    with pytest.raises(CheckFailed, match="in FP32 it is no better: NaN or infinity"):
        sentry.run(scene())


def test_each_bad_output_has_its_own_number() -> None:
    def spoil(restored: np.ndarray) -> None:
        restored[1, 0, 2, 3] = np.nan
        restored[3] = 0.25

    sentry, said = watched(Network(spoil))
    for _ in range(2):
        sentry.run(scene(4))
    assert said == [
        f"Output {number} is bad: {what}. It is restored once more in FP32."
        for number, what in ((2, NOT_FINITE), (4, FLAT), (6, NOT_FINITE), (8, FLAT))
    ]
    stopped, _ = watched(Network(spoil), "stop")
    with pytest.raises(CheckFailed, match=r"the output is bad: NaN or infinity \(got output 2\)"):
        stopped.run(scene(4))


@pytest.mark.parametrize("real", [1, 3, 4])
def test_what_fills_a_batch_up_is_not_counted(real: int) -> None:
    def spoil(restored: np.ndarray) -> None:
        restored[0, 0, 2, 3] = np.nan
        restored[real:] = 0.25  # of a batch that is filled up

    sentry, said = watched(Network(spoil))
    pictures = scene(4)
    (whole, rest) = run_filled(sentry, [(pictures, real)] * 2)
    for restored in (whole, rest):
        np.testing.assert_array_equal(restored, 1 - pictures[:real] / 2)
    assert sentry.count == SentryCount("retry", checked=2 * real, not_finite=2, restored_in_fp32=2)
    assert [text.split()[1] for text in said] == ["1", str(real + 1)]


def test_a_session_that_is_not_watched_gives_the_real_ones_too() -> None:
    pictures = scene(3)
    outputs = list(run_filled(Network(), [(pictures, 2), (pictures, 3)]))
    assert [len(output) for output in outputs] == [2, 3]
    np.testing.assert_array_equal(outputs[0], 1 - pictures[:2] / 2)


def test_a_session_that_stopped_is_not_in_the_middle_of_anything() -> None:
    class Counting(Network):
        inside = 0

        def run_many(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            self.inside += 1
            try:
                yield from map(self.run, batches)
            finally:
                self.inside -= 1

    network = Counting(put(np.nan))
    sentry, _ = watched(network, "stop")
    with pytest.raises(CheckFailed) as kept:
        list(sentry.run_many([scene()] * 3))
    assert network.inside == 0, kept


def test_two_watches_beside_one_another_share_the_fp32_graph() -> None:
    opened: list[Network] = []

    def spare() -> Network:
        opened.append(Network())
        return opened[-1]

    first, said = watched(Network(put(np.nan)), spare=spare)
    second = first.beside(Network(put(np.nan)))
    for sentry in (second, first):
        sentry.run(scene())
    assert len(opened) == 1
    assert first.count is second.count
    assert [text.split()[1] for text in said] == ["2", "4"]
    first.close()
    assert opened[0].closed


def test_no_fp32_to_be_had() -> None:
    def spare() -> Network:
        raise MissingDependency("onnxruntime is not installed", fix="Run: pip install onnxruntime")

    sentry, _ = watched(Network(put(np.nan)), spare=spare)
    with pytest.raises(CheckFailed, match=r"cannot be opened.*onnxruntime is not installed"):
        sentry.run(scene())


def test_the_spare_is_opened_once_and_closed() -> None:
    opened: list[Network] = []

    def spare() -> Network:
        opened.append(Network())
        return opened[-1]

    network = Network(put(np.nan))
    sentry, _ = watched(network, spare=spare)
    for _ in range(3):
        sentry.run(scene())
    assert len(opened) == 1
    sentry.close()
    assert network.closed
    assert opened[0].closed


def test_overlapped_batches_are_matched_with_what_went_in() -> None:
    class Ahead(Network):
        """Takes two batches before it gives the first."""

        def run_many(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            waiting: list[np.ndarray] = []
            for pictures in batches:
                waiting.append(pictures)
                if len(waiting) == 2:
                    yield self.run(waiting.pop(0))
            for pictures in waiting:
                yield self.run(pictures)

    sentry, _ = watched(Ahead(put(np.nan)))
    batches = [scene() * factor for factor in (0.2, 0.5, 1.0)]
    for pictures, restored in zip(batches, sentry.run_many(batches), strict=True):
        np.testing.assert_array_equal(restored, 1 - pictures / 2)
    assert sentry.count.restored_in_fp32 == 3


class Bytes:
    """``255 - x // 2``; cannot say NaN but by an error."""

    name = "bytes"

    def __init__(self, kind: str = "uint8", fails: bool = False, flat: bool = False) -> None:
        self.form, self.fails, self.flat = ByteFormat(kind), fails, flat  # type: ignore[arg-type]

    def run_bytes(self, pictures: np.ndarray) -> np.ndarray:
        if self.fails:
            raise PictureError("the network gave pixels that are not finite numbers")
        return np.full_like(pictures, 7) if self.flat else np.asarray(255 - pictures // 2, np.uint8)


class TestBytes:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)

    def sentry(self, inner: Bytes, mode: str = "retry") -> tuple[ByteSentry, SentrySession]:
        watch, _ = watched(Network(), mode)
        return ByteSentry(inner, watch), watch

    @pytest.mark.parametrize("kind", ["uint8", "bgr"])
    def test_good_bytes_pass(self, kind: str) -> None:
        sentry, watch = self.sentry(Bytes(kind))
        np.testing.assert_array_equal(sentry.run_bytes(self.pictures), 255 - self.pictures // 2)
        assert (watch.count.checked, watch.count.bad) == (2, 0)
        assert sentry.form.kind == kind

    @pytest.mark.parametrize("kind", ["uint8", "bgr"])
    @pytest.mark.parametrize("how", ["fails", "flat"])
    def test_bad_bytes_are_restored_in_floats(self, kind: str, how: str) -> None:
        pictures = np.ascontiguousarray(np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None, None] * 30, (2, 8, 8, 3)))
        pictures = pictures + np.asarray([0, 10, 20], np.uint8)
        sentry, watch = self.sentry(Bytes(kind, **{how: True}))
        expected = np.rint((1 - pictures / 255 / 2) * 255)
        assert np.abs(sentry.run_bytes(pictures).astype(int) - expected).max() <= 1  # float32 against float64
        assert watch.count.restored_in_fp32 == 2

    def test_what_fills_a_batch_up_is_not_counted(self) -> None:
        pictures = np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None, None] * 30, (4, 8, 8, 3))
        for how in ({}, {"fails": True}, {"flat": True}):
            sentry, watch = self.sentry(Bytes(**how))
            restored = run_filled_bytes(sentry, np.ascontiguousarray(pictures), 3)
            assert np.abs(restored.astype(int) - (255 - pictures[:3] // 2)).max() <= 1
            assert (watch.count.checked, watch.count.bad) == (3, 3 if how else 0)
        assert len(run_filled_bytes(Bytes(), np.ascontiguousarray(pictures), 3)) == 3

    @given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.sampled_from([0, 1, 60]), st.booleans())
    @settings(max_examples=60, deadline=None)
    def test_bytes_are_judged_as_their_floats_are(
        self, seed: int, height: int, width: int, span: int, ramp: bool
    ) -> None:
        random = np.random.default_rng(seed)
        picture = random.integers(100, 101 + span, (1, height, width, 3), np.uint8)
        picture = picture + np.asarray(np.arange(width)[:, None] * 9 * ramp, np.uint8)
        output = np.full_like(picture, 7) + random.integers(0, 1 + random.integers(0, 2), picture.shape, np.uint8)

        class Fixed(Bytes):
            def run_bytes(self, pictures: np.ndarray) -> np.ndarray:
                return output

        def floats(pictures: np.ndarray) -> np.ndarray:
            return np.asarray(pictures.transpose(0, 3, 1, 2) / np.float32(255), np.float32)

        of_bytes, _ = watched(Network())
        ByteSentry(Fixed(), of_bytes).run_bytes(picture)
        of_floats, _ = watched(Network(lambda restored: restored.__setitem__(slice(None), floats(output))))
        of_floats.run(floats(picture))
        assert of_bytes.count == of_floats.count

    def test_or_it_stops(self) -> None:
        sentry, _ = self.sentry(Bytes(fails=True), "stop")
        with pytest.raises(CheckFailed, match="NaN or infinity"):
            sentry.run_bytes(self.pictures)
