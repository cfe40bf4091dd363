from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeir.errors import PictureError, UsageError
from edgeir.imaging.colour import luma, to_uint8, to_uint16
from edgeir.imaging.listing import list_pictures
from edgeir.imaging.picture import Picture


def test_restored_keeps_what_the_network_does_not_touch() -> None:
    alpha = np.float32([[0.0, 0.25], [0.5, 1.0]])
    picture = Picture(np.zeros((2, 2, 3), np.float32), alpha, grey=True, bits=16, icc_profile=b"p", format="TIFF")
    same = picture.restored(np.ones((2, 2, 3), np.float32))
    assert same.alpha is alpha
    larger = picture.restored(np.ones((6, 6, 3), np.float32))
    assert larger.alpha is not None
    np.testing.assert_array_equal(larger.alpha[::3, ::3], alpha)
    assert (larger.grey, larger.bits, larger.icc_profile, larger.format) == (True, 16, b"p", "TIFF")


@pytest.mark.parametrize("shape", [(3, 2, 3), (4, 2, 3), (1, 1, 3)])
def test_restored_refuses_other_shapes(shape: tuple[int, int, int]) -> None:
    with pytest.raises(PictureError, match="another shape than its source"):
        Picture(np.zeros((2, 2, 3), np.float32)).restored(np.zeros(shape, np.float32))


def test_what_is_no_picture() -> None:
    good = np.zeros((2, 3, 3), np.float32)
    for pixels in (good[..., 0], good[..., :2], good[:0]):
        with pytest.raises(PictureError, match="no RGB picture"):
            Picture(pixels)
    with pytest.raises(PictureError, match="expected float32, got float64"):
        Picture(good.astype(np.float64))
    with pytest.raises(PictureError, match="alpha channel does not fit"):
        Picture(good, np.zeros((3, 2), np.float32))
    with pytest.raises(PictureError, match="unknown bit depth"):
        Picture(good, bits=12)


def test_rounding_inverts_reading_for_every_integer() -> None:
    for most, rounded in ((255, to_uint8), (65535, to_uint16)):
        values = np.arange(most + 1)
        np.testing.assert_array_equal(rounded(values.astype(np.float32) / np.float32(most)), values)


def test_luma() -> None:
    grey = np.random.default_rng(0).random((5, 6, 1), dtype=np.float32).repeat(3, axis=2)
    # Three products and two sums in float32: at most 3 units in the last place of 1.
    np.testing.assert_allclose(luma(grey), grey[..., 0], atol=3 * 2**-24)
    assert luma(np.float32([[[0, 1, 0]]]))[0, 0] == np.float32(0.587)
    with pytest.raises(UsageError, match="luma needs an RGB picture"):
        luma(grey[..., 0])


def test_listing(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", "._a.jpg", "sub/c.webp", ".hidden/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listing = list_pictures(tmp_path)
    assert [file.name for file in listing.pictures] == ["a.jpg", "b.PNG"]
    assert [file.name for file in listing.skipped] == ["._a.jpg", "notes.txt"]
    deep = list_pictures(str(tmp_path), recursive=True)
    assert [file.relative_to(tmp_path).as_posix() for file in deep.pictures] == ["a.jpg", "b.PNG", "sub/c.webp"]


def test_listing_refusals(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(PictureError, match=r"no picture in this folder.*got 1 other files"):
        list_pictures(tmp_path)
    with pytest.raises(PictureError, match="a file, not a folder"):
        list_pictures(tmp_path / "notes.txt")
    with pytest.raises(PictureError, match="no such folder"):
        list_pictures(tmp_path / "missing")


def test_the_package_is_light() -> None:
    code = (
        "import sys, edgeir.imaging; assert 'numpy' not in sys.modules and 'PIL' not in sys.modules;"
        "import edgeir.imaging.measuring, edgeir.imaging.conditions, edgeir.imaging.listing, edgeir.imaging.metrics;"
        "heavy = {'torch', 'onnx', 'scipy', 'skimage', 'sklearn', 'png'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
