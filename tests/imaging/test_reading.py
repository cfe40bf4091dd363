"""Every kind of file that is read, and every kind that is refused."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import png
import pytest
from PIL import Image, ImageOps

from edgeir.errors import PictureError
from edgeir.imaging.reading import read_picture

HEIGHT, WIDTH = 12, 20


def colour_8bit(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, channels), dtype=np.uint8)


def colour_16bit(channels: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 65536, (HEIGHT, WIDTH, channels), dtype=np.uint16)


def write_png16(path: Path, values: np.ndarray, **options: object) -> None:
    channels = values.shape[2]
    writer = png.Writer(WIDTH, HEIGHT, bitdepth=16, greyscale=channels < 3, alpha=channels in (2, 4), **options)
    with path.open("wb") as file:
        writer.write_array(file, values.reshape(-1).tolist())


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_lossless_rgb(tmp_path: Path, suffix: str) -> None:
    values = colour_8bit()
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(values).save(path, **({"lossless": True} if suffix == "webp" else {}))
    picture = read_picture(path)
    assert picture.pixels.dtype == np.float32
    assert picture.pixels.flags.c_contiguous
    np.testing.assert_array_equal(picture.pixels, values.astype(np.float32) / np.float32(255))
    assert (picture.alpha, picture.grey, picture.bits) == (None, False, 8)
    assert (picture.height, picture.width) == (HEIGHT, WIDTH)


def test_jpeg_and_profile(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(colour_8bit()).save(path, icc_profile=b"profile")
    picture = read_picture(str(path))
    assert picture.format == "JPEG"
    assert picture.icc_profile == b"profile"
    np.testing.assert_array_equal(picture.pixels, np.asarray(Image.open(path), np.float32) / np.float32(255))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha(tmp_path: Path, mode: str) -> None:
    values = colour_8bit(len(mode))
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path)
    picture = read_picture(path)
    assert picture.alpha is not None
    np.testing.assert_array_equal(np.rint(picture.alpha * 255), values[..., -1])
    np.testing.assert_array_equal(np.rint(picture.pixels[..., 0] * 255), values[..., 0])
    assert picture.grey is (mode == "LA")


def test_grey_and_one_bit(tmp_path: Path) -> None:
    values = colour_8bit(1)[..., 0]
    Image.fromarray(values).save(tmp_path / "l.png")
    Image.fromarray(values > 128).save(tmp_path / "one.png")
    grey, bilevel = read_picture(tmp_path / "l.png"), read_picture(tmp_path / "one.png")
    assert grey.grey
    assert bilevel.grey
    np.testing.assert_array_equal(np.rint(grey.pixels[..., 2] * 255), values)
    np.testing.assert_array_equal(bilevel.pixels[..., 1], (values > 128).astype(np.float32))


def test_palette_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.fromarray((colour_8bit() // 128) * 255).quantize(8)
    image.save(tmp_path / "p.png")
    image.save(tmp_path / "t.png", transparency=0)
    expected = np.asarray(image.convert("RGB"))
    plain, transparent = read_picture(tmp_path / "p.png"), read_picture(tmp_path / "t.png")
    np.testing.assert_array_equal(np.rint(plain.pixels * 255), expected)
    assert plain.alpha is None
    assert not plain.grey
    assert transparent.alpha is not None
    np.testing.assert_array_equal(transparent.alpha == 0, np.asarray(image) == 0)


def test_palette_of_greys_is_grey(tmp_path: Path) -> None:
    values = colour_8bit(1)[..., 0]
    Image.fromarray(values).convert("P").save(tmp_path / "p.png")
    picture = read_picture(tmp_path / "p.png")
    assert picture.grey
    np.testing.assert_array_equal(np.rint(picture.pixels[..., 0] * 255), values)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_transparent_colour(tmp_path: Path, mode: str) -> None:
    values = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    values[3, 4] = 200
    image = Image.fromarray(values).convert(mode)
    image.save(tmp_path / "t.png", transparency=(200, 200, 200) if mode == "RGB" else 200)
    picture = read_picture(tmp_path / "t.png")
    assert picture.alpha is not None
    assert picture.alpha[3, 4] == 0
    assert picture.alpha.sum() == HEIGHT * WIDTH - 1
    assert picture.grey is (mode == "L")


def test_cmyk_loses_its_profile(tmp_path: Path) -> None:
    image = Image.fromarray(colour_8bit()).convert("CMYK")
    image.save(tmp_path / "c.tif", icc_profile=b"cmyk profile")
    picture = read_picture(tmp_path / "c.tif")
    np.testing.assert_array_equal(np.rint(picture.pixels * 255), np.asarray(image.convert("RGB")))
    assert picture.icc_profile is None


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("interlace", [False, True])
def test_png16_keeps_every_bit(tmp_path: Path, channels: int, interlace: bool) -> None:
    values = colour_16bit(channels)
    write_png16(tmp_path / "a.png", values, interlace=interlace)
    picture = read_picture(tmp_path / "a.png")
    assert (picture.bits, picture.grey) == (16, channels < 3)
    colour = values[..., :3] if channels >= 3 else values[..., :1].repeat(3, axis=2)
    np.testing.assert_array_equal(np.rint(picture.pixels * 65535), colour)
    if channels in (2, 4):
        assert picture.alpha is not None
        np.testing.assert_array_equal(np.rint(picture.alpha * 65535), values[..., -1])
    else:
        assert picture.alpha is None


@pytest.mark.parametrize("channels", [1, 3])
def test_png16_transparent_colour(tmp_path: Path, channels: int) -> None:
    values = colour_16bit(channels)
    clear = values[5, 6].tolist()
    write_png16(tmp_path / "a.png", values, transparent=clear[0] if channels == 1 else tuple(clear))
    picture = read_picture(tmp_path / "a.png")
    assert picture.alpha is not None
    assert picture.alpha[5, 6] == 0
    np.testing.assert_array_equal(picture.alpha == 0, (values == values[5, 6]).all(axis=2))


def test_grey_16bit_tiff(tmp_path: Path) -> None:
    values = colour_16bit(1)[..., 0]
    Image.fromarray(values).save(tmp_path / "a.tif")
    picture = read_picture(tmp_path / "a.tif")
    assert (picture.bits, picture.grey) == (16, True)
    np.testing.assert_array_equal(np.rint(picture.pixels[..., 0] * 65535), values)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(colour_8bit()).save(path, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    picture = read_picture(path)
    assert (picture.width, picture.height) == expected.size
    assert (picture.height == WIDTH) is (orientation >= 5)
    np.testing.assert_array_equal(np.rint(picture.pixels * 255), np.asarray(expected))


def test_orientation_of_png16(tmp_path: Path) -> None:
    values = colour_16bit(3)
    write_png16(tmp_path / "a.png", values)
    data = (tmp_path / "a.png").read_bytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    content = exif.tobytes()[6:]  # without the JPEG marker "Exif\0\0"
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content + struct.pack(">I", zlib.crc32(b"eXIf" + content))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    np.testing.assert_array_equal(np.rint(read_picture(tmp_path / "a.png").pixels * 65535), np.rot90(values, -1))


def test_damaged_exif_is_no_damage(tmp_path: Path) -> None:
    Image.fromarray(colour_8bit()).save(tmp_path / "a.jpg", exif=b"Exif\0\0nonsense")
    assert read_picture(tmp_path / "a.jpg").pixels.shape == (HEIGHT, WIDTH, 3)


def test_phone_jpeg_with_a_second_picture_gives_the_first(tmp_path: Path) -> None:
    first, second = Image.fromarray(colour_8bit()), Image.new("RGB", (8, 8))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    picture = read_picture(tmp_path / "a.jpg")
    assert (picture.format, picture.pixels.shape) == ("JPEG", (HEIGHT, WIDTH, 3))


def test_missing_folder_empty_text_and_gif(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is not a picture\n" * 10)
    Image.fromarray(colour_8bit()).save(tmp_path / "a.gif")
    for name, words in [
        ("missing.png", "no such file"),
        (".", "a folder, not a picture"),
        ("empty.png", "the file is empty"),
        ("text.png", "not a picture that edgeir reads"),
        ("a.gif", "not a picture that edgeir reads"),
        ("nul\0.png", "cannot be read"),
    ]:
        with pytest.raises(PictureError, match=words):
            read_picture(tmp_path / name)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif", "16.png"])
def test_a_cut_file_is_refused_or_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix == "16.png":
        write_png16(path, colour_16bit(3))
    else:
        Image.fromarray(colour_8bit()).resize((64, 48)).save(path)
    whole, data = read_picture(path).pixels, path.read_bytes()
    refused = 0
    for share in (0.05, 0.3, 0.5, 0.7, 0.9, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        try:
            pixels = read_picture(path).pixels
        except PictureError:
            refused += 1
        else:  # only what carries no pixel was cut off (a TIFF keeps its directory at the end, a PNG its IEND)
            np.testing.assert_array_equal(pixels, whole)
    assert refused >= 4


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow comments on damaged TIFF directories
def test_bit_flips_never_escape_as_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / "a.png"
    write_png16(path, colour_16bit(4))
    sources = [path.read_bytes()]
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        file = io.BytesIO()
        Image.fromarray(colour_8bit()).save(file, format=kind)
        sources.append(file.getvalue())
    for data in sources:
        for _ in range(40):
            damaged = bytearray(data)
            for position in rng.integers(0, len(data), 3):
                damaged[position] ^= int(rng.integers(1, 256))
            path.write_bytes(damaged)
            with contextlib.suppress(PictureError):
                read_picture(path)


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(colour_8bit()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    assert read_picture(tmp_path / "a.png").height == HEIGHT  # above the limit Pillow only warns: not a bomb yet
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 3)
    with pytest.raises(PictureError, match="decompression bomb"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_more_frames_than_one(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(PictureError, match=r"more than one frame or page \(expected one, got 3\)"):
        read_picture(tmp_path / f"a.{suffix}")


def test_depth_that_cannot_be_kept(tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "f.tif")
    Image.fromarray(np.ones((8, 8), np.int32)).save(tmp_path / "i.tif")
    (tmp_path / "rgb16.tif").write_bytes(tiff_rgb16())
    for name in ("f.tif", "i.tif", "rgb16.tif"):
        with pytest.raises(PictureError, match="the depth of this picture cannot be kept"):
            read_picture(tmp_path / name)


def tiff_rgb16() -> bytes:
    """A TIFF of 2 x 2 RGB pixels of 16 bits: Pillow opens such a file and drops the low bytes."""
    entries = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 140), (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, 24), (284, 3, 1, 1)]
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    head += b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<I", 0)
    return head + struct.pack("<3H", 16, 16, 16) + bytes(range(24))
