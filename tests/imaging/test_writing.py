"""What a written file keeps, what is refused, and that a failure leaves nothing behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from edgeir.errors import OutOfSpace, OutputError, PictureError, UsageError
from edgeir.imaging.picture import Picture
from edgeir.imaging.reading import read_picture
from edgeir.imaging.writing import format_of, write_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]


def random_picture(*, bits: int = 8, alpha: bool = False, grey: bool = False, profile: bytes | None = None) -> Picture:
    rng = np.random.default_rng(4)
    most = 2**bits - 1
    values = rng.integers(0, most + 1, (9, 14, 4)).astype(np.float32) / np.float32(most)
    pixels = np.ascontiguousarray(values[..., :1].repeat(3, axis=2) if grey else values[..., :3])
    return Picture(pixels, values[..., 3].copy() if alpha else None, grey=grey, bits=bits, icc_profile=profile)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_png_is_exact(tmp_path: Path, bits: int, alpha: bool, grey: bool) -> None:
    profile = GREY_PROFILE if grey else SRGB
    picture = random_picture(bits=bits, alpha=alpha, grey=grey, profile=profile)
    write_picture(picture, tmp_path / "a.png")
    again = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(again.pixels, picture.pixels)
    assert (again.bits, again.grey, again.icc_profile) == (bits, grey, profile)
    if alpha:
        np.testing.assert_array_equal(again.alpha, picture.alpha)
    else:
        assert again.alpha is None
    with Image.open(tmp_path / "a.png") as image:  # a second reader: libpng's grandchild, not pypng
        assert image.info["icc_profile"] == profile
        image.load()
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("suffix", ["webp", "tif", "TIFF"])
@pytest.mark.parametrize("alpha", [False, True])
def test_lossless_8bit_formats(tmp_path: Path, suffix: str, alpha: bool) -> None:
    picture = random_picture(alpha=alpha, profile=SRGB)
    write_picture(picture, tmp_path / f"a.{suffix}")
    again = read_picture(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(again.pixels, picture.pixels)
    assert again.icc_profile == SRGB
    assert (again.alpha is not None) is alpha


def test_bmp_and_jpeg(tmp_path: Path) -> None:
    picture = random_picture()
    write_picture(picture, tmp_path / "a.bmp")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.bmp").pixels, picture.pixels)
    ramp = np.linspace(0, 1, 64, dtype=np.float32)
    smooth = Picture(np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.float32(0.5)), axis=2).copy())
    write_picture(smooth, tmp_path / "a.jpeg")
    # JPEG of quality 95 quantises the lowest frequencies of chroma by 2 or 3: errors of a few steps.
    assert np.abs(read_picture(tmp_path / "a.jpeg").pixels - smooth.pixels).max() <= 6 / 255


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_grey_stays_grey_by_luma(tmp_path: Path, suffix: str) -> None:
    pixels = np.zeros((16, 16, 3), np.float32) + np.float32([0.2, 0.4, 0.6])
    write_picture(Picture(pixels, grey=True), tmp_path / f"a.{suffix}")
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert image.mode == "L"
        assert image.getpixel((3, 3)) == round(255 * (0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6))


def test_grey_webp_drops_the_grey_profile(tmp_path: Path) -> None:
    write_picture(random_picture(grey=True, profile=GREY_PROFILE), tmp_path / "a.webp")
    assert read_picture(tmp_path / "a.webp").icc_profile is None


def test_values_are_clipped_and_rounded(tmp_path: Path) -> None:
    pixels = np.zeros((1, 5, 3), np.float32) + np.float32([-0.5, 0.4999 / 255, 0.5, 0.5001 / 255, 7.0])[:, None]
    write_picture(Picture(pixels), tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 0, 128, 1, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    picture = random_picture(alpha=True)
    picture.pixels[2, 3, 1] = bad
    with pytest.raises(PictureError, match="1 pixels are not finite numbers"):
        write_picture(picture, tmp_path / "a.png")
    picture = random_picture(alpha=True)
    assert picture.alpha is not None
    picture.alpha[:2, 0] = bad
    with pytest.raises(PictureError, match="2 alpha values are not finite"):
        write_picture(picture, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["jpg", "bmp"])
def test_alpha_without_a_place(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UsageError, match=r"cannot hold the transparency.*Write a \.png"):
        write_picture(random_picture(alpha=True), tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("name", ["a", "a.gif", "a.pgn"])
def test_unknown_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no picture format has this suffix"):
        write_picture(random_picture(), tmp_path / name)
    assert format_of(Path("A.JPG")) == "JPEG"


def test_too_large_for_the_format(tmp_path: Path) -> None:
    long = Picture(np.zeros((1, 16384, 3), np.float32))  # WebP ends at 16383
    with pytest.raises(PictureError, match=r"cannot be stored as WEBP.*1x16384.*Write a PNG"):
        write_picture(long, tmp_path / "a.webp")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, OutOfSpace, "the disk has no room left"),
        (errno.EDQUOT, OutOfSpace, "the disk has no room left"),
        (errno.EACCES, OutputError, "no permission"),
        (errno.EROFS, OutputError, "read-only"),
        (errno.EIO, OutputError, "cannot be written"),
    ],
)
def test_storage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], words: str
) -> None:
    (tmp_path / "a.png").write_bytes(b"old")

    def fail(self: Path, target: Path) -> Path:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(kind, match=words):
        write_picture(random_picture(), tmp_path / "a.png")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_picture(random_picture(), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the folder does not exist"):
        write_picture(random_picture(), tmp_path / "no" / "a.png")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a part of the path is a file"):
        write_picture(random_picture(), tmp_path / "file" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match="it is a folder, not a file"):
        write_picture(random_picture(), tmp_path / "folder.png")
    with pytest.raises(OutputError, match="name is too long"):
        write_picture(random_picture(), tmp_path / ("a" * 300 + ".png"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.png"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "target.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("target.png")
    write_picture(random_picture(), tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert read_picture(tmp_path / "target.png").height == 9


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_file_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_picture(random_picture(), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_mode == (tmp_path / "plain").stat().st_mode
