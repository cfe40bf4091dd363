"""H W C to N C H W and back, and the middle of a picture."""

from __future__ import annotations

import numpy as np
import pytest

from edgeir.errors import UsageError
from edgeir.imaging.layout import hwc_from_nchw, middle_of, nchw_from_hwc


def test_there_and_back() -> None:
    pixels = np.random.default_rng(0).random((4, 6, 3), np.float32)
    batch = nchw_from_hwc(pixels)
    assert batch.shape == (1, 3, 4, 6)
    assert batch.flags.c_contiguous
    assert batch[0, 2, 1, 5] == pixels[1, 5, 2]
    np.testing.assert_array_equal(hwc_from_nchw(batch), pixels)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(UsageError, match=r"needs three axes .*got \(4, 6\)"):
        nchw_from_hwc(np.zeros((4, 6), np.float32))
    with pytest.raises(UsageError, match="not a batch of one picture"):
        hwc_from_nchw(np.zeros((2, 3, 4, 6), np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_middle(dtype: type) -> None:
    pixels = np.arange(5 * 8).reshape(5, 8, 1).astype(dtype)
    crop = middle_of(pixels, 2, 4)
    assert crop.dtype == dtype
    assert crop.flags.c_contiguous
    np.testing.assert_array_equal(crop, pixels[1:3, 2:6])
    np.testing.assert_array_equal(middle_of(pixels, 5, 8), pixels)


def test_the_middle_of_a_smaller_picture_is_refused() -> None:
    with pytest.raises(UsageError, match=r"smaller than the crop .*at least 6x8 pixels, got 5x8"):
        middle_of(np.zeros((5, 8, 3)), 6, 8)
