"""Observers: a range is a function of the values seen, and the one that its definition says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeir.calibrate.observers import BINS, OBSERVERS, Magnitudes, MeanSquareError, Percentile, make_observer
from edgeir.errors import CheckFailed, UsageError
from edgeir.quantization_placement import QMAX

VALUES = hnp.arrays(
    np.float32,
    st.integers(1, 300),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False) | st.just(0.0),
)
METHODS = sorted(OBSERVERS)


def range_of(method: str, *pieces: np.ndarray) -> float:
    observer = make_observer(method)
    for piece in pieces:
        observer.observe(piece)
    return observer.amax()


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(values=VALUES, cut=st.integers(0, 300))
def test_pieces_equal_the_whole(method: str, values: np.ndarray, cut: int) -> None:
    assert range_of(method, values[:cut], values[cut:]) == range_of(method, values)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(values=VALUES, seed=st.integers(0, 9))
def test_the_order_does_not_matter(method: str, values: np.ndarray, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(values)
    assert range_of(method, *np.array_split(shuffled, 3)) == range_of(method, values)
    assert range_of(method, -values) == range_of(method, values)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(values=VALUES, exponent=st.integers(-8, 8))
def test_a_power_of_two_scales_the_range_exactly(method: str, values: np.ndarray, exponent: int) -> None:
    scaled = values * np.float32(2.0**exponent)
    assert range_of(method, scaled) == pytest.approx(range_of(method, values) * 2.0**exponent, rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [0.3, 1.7, 5.1])
def test_any_factor_scales_the_range_to_a_bin(method: str, factor: float) -> None:
    values = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    first, second = range_of(method, values), range_of(method, values * np.float32(factor))
    # Entropy and MSE choose among some two hundred candidates: one of them is half a per cent of the largest value.
    assert second == pytest.approx(first * factor, rel=0.06)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(values=VALUES)
def test_a_range_is_within_the_values(method: str, values: np.ndarray) -> None:
    amax = range_of(method, values)
    largest = float(np.abs(values).max())
    assert 0 <= amax <= largest * (1 + 1e-6)
    assert (amax > 0) == (largest > 0) or method == "percentile"


def test_the_histogram_is_that_of_numpy() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.standard_normal(5000), rng.standard_normal(50) * 40]).astype(np.float32)
    magnitudes = Magnitudes()
    for piece in np.array_split(values, 17):
        magnitudes.add(piece)
    edges = np.arange(BINS + 1) * magnitudes.width
    counts, _ = np.histogram(np.abs(values), edges)
    assert np.array_equal(counts, magnitudes.counts)
    assert (magnitudes.seen, magnitudes.largest) == (5050, np.abs(values).max())
    assert np.flatnonzero(counts)[-1] >= BINS // 2
    assert magnitudes.share_above(1.0) == pytest.approx(np.mean(np.abs(values) > 1), abs=2e-3)


def test_tensors_of_many_pieces_are_counted_whole() -> None:
    values = np.random.default_rng(5).standard_normal((3, 7, 130, 131)).astype(np.float32)
    magnitudes = Magnitudes()
    magnitudes.add(values.transpose(0, 2, 3, 1))
    counts, _ = np.histogram(np.abs(values), np.arange(BINS + 1) * magnitudes.width)
    assert np.array_equal(counts, magnitudes.counts)


def test_the_smallest_magnitudes_of_float32_have_a_bin() -> None:
    magnitudes = Magnitudes()
    magnitudes.add(np.asarray([1e-42, -3e-45, 0], np.float32))
    assert (magnitudes.counts[0], magnitudes.seen) == (3, 3)
    assert magnitudes.largest == np.float32(1e-42)


@pytest.mark.parametrize("percent", [50, 90, 99, 99.9, 100])
def test_percentiles_are_those_of_numpy_to_a_bin(percent: float) -> None:
    values = np.random.default_rng(4).standard_normal(50_000).astype(np.float32)
    observer = Percentile(percent)
    observer.observe(values)
    wanted = float(np.percentile(np.abs(values), percent))
    assert observer.amax() == pytest.approx(wanted, abs=2 * observer.magnitudes.width + 1e-3 * wanted)
    assert make_observer("minmax").amax() == 0


def divergence_by_hand(counts: list[int], stop: int, levels: int) -> float:
    """Migacz's definition, bin by bin: P clipped at ``stop``, Q in ``levels`` levels spread over P's filled bins."""
    clipped = counts[:stop]
    clipped[-1] += sum(counts[stop:])
    members: dict[int, list[int]] = {}
    for index in range(stop):
        members.setdefault(index * levels // stop, []).append(index)
    q = [0.0] * stop
    for group in members.values():
        filled = [index for index in group if clipped[index] > 0]
        for index in filled:
            q[index] = max(sum(counts[index] for index in group) / len(filled), 1e-4)
    total_p, total_q = sum(clipped), sum(q)
    return sum(
        p / total_p * math.log((p / total_p) / (other / total_q)) for p, other in zip(clipped, q, strict=True) if p > 0
    )


def test_entropy_is_its_definition() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.laplace(size=20_000), rng.laplace(size=40) * 8]).astype(np.float32)
    magnitudes = Magnitudes()
    magnitudes.add(values)
    used = int(np.flatnonzero(magnitudes.counts)[-1]) + 1
    found = range_of("entropy", values)
    assert found < 0.8 * np.abs(values).max()  # it does cut the tail
    mine = divergence_by_hand(magnitudes.counts.tolist(), round(found / magnitudes.width), 128)
    others = [divergence_by_hand(magnitudes.counts.tolist(), stop, 128) for stop in range(128, used, 97)]
    assert mine <= min(others) + 1e-4  # its candidates are other bins, and there are two hundred of them


def test_entropy_is_near_that_of_onnxruntime() -> None:
    """ORT spreads bins and levels over both signs and leaves what does not divide to the last one: near, not equal."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    rng = np.random.default_rng(5)
    values = np.concatenate([rng.laplace(size=200_000), rng.laplace(size=40) * 8]).astype(np.float32)
    edge = float(np.abs(values).max())
    histogram, edges = np.histogram(values, 2049, range=(-edge, edge))
    collector = HistogramCollector("entropy", True, 2049, 256, 99.99, "same")
    theirs = collector.get_entropy_threshold((histogram, edges, -edge, edge, edge), 256)
    assert range_of("entropy", values) == pytest.approx(float(np.abs(theirs[1])), rel=0.35)


def test_mean_square_error_is_the_smallest_of_all_ranges() -> None:
    values = np.random.default_rng(6).laplace(size=30_000).astype(np.float32)
    observer = MeanSquareError()
    observer.observe(values)
    best = observer.amax()

    def error(amax: float) -> float:
        scale = amax / QMAX
        return float(np.mean((np.clip(np.rint(values / scale), -QMAX, QMAX) * scale - values) ** 2))

    others = [error(amax) for amax in np.linspace(0.2, 1, 60) * float(np.abs(values).max())]
    assert error(best) <= min(others) * 1.01  # candidates and bins are finite
    assert best < 0.9 * float(np.abs(values).max())


@pytest.mark.parametrize("method", METHODS)
def test_edge_cases(method: str) -> None:
    assert range_of(method) == 0
    assert range_of(method, np.zeros((2, 3), np.float32)) == 0
    assert range_of(method, np.zeros(0, np.float32)) == 0
    constant = range_of(method, np.full(1000, -0.7, np.float32))
    assert constant == pytest.approx(0.7, rel=1e-2)
    assert range_of(method, np.float16([1, 2, 4])) == pytest.approx(4, rel=1e-2)
    assert math.isfinite(range_of(method, np.float32([1e-30, 1e30])))
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(CheckFailed, match=r"calibration: an activation is NaN or infinite .*1 of 3"):
            range_of(method, np.float32([0, bad, 1]))


@pytest.mark.parametrize("method", METHODS)
def test_a_thousand_pieces_in_bounded_memory(method: str) -> None:
    observer = make_observer(method)
    rng = np.random.default_rng(7)
    for _ in range(1000):
        observer.observe(rng.standard_normal(64).astype(np.float32))
    assert 1 < observer.amax() < 6
    held = getattr(observer, "magnitudes", None)
    assert held is None or held.counts.nbytes == BINS * 8


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown calibration method 'entrophy' .*Did you mean 'entropy'"):
        make_observer("entrophy")
    for percent in (0, -1, 100.1):
        with pytest.raises(UsageError, match=r"percentile is out of range"):
            Percentile(percent)
