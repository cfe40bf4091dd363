"""From the packages' files to tiles, on tiny packages of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import png
import pytest
from PIL import Image

from edgeir.errors import PictureError
from edgeir.train.photographs import HELD_OUT, PHOTOGRAPHS, located, main, prepare, tiles


def noise(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def file_of(share: Path, pattern: str, name: str = "1920x1080.png") -> Path:
    path = share / (pattern.removesuffix("*") + ("png" if pattern.endswith(".*") else name))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture
def share(tmp_path: Path) -> Path:
    for index, photograph in enumerate(PHOTOGRAPHS):
        Image.fromarray(noise(index)).save(file_of(tmp_path / "share", photograph.pattern))
    return tmp_path / "share"


def test_names_are_unique_and_the_held_out_are_among_them() -> None:
    names = [photograph.name for photograph in PHOTOGRAPHS]
    assert len(set(names)) == len(names)
    assert set(HELD_OUT) < set(names)


def test_all_are_located(share: Path) -> None:
    found = located(share)
    assert list(found) == [photograph.name for photograph in PHOTOGRAPHS]
    assert all(path.is_file() for path in found.values())


def test_the_largest_file_is_taken(share: Path) -> None:
    folder = share / "wallpapers" / "Kite" / "contents" / "images"
    Image.fromarray(noise(0, 20, 28)).save(folder / "9999x9999.png")
    (folder / "folder.png").mkdir()
    assert located(share)["Kite"] == folder / "1920x1080.png"
    Image.fromarray(noise(0, 80, 80)).save(folder / "0.png")
    assert located(share)["Kite"] == folder / "0.png"


def test_what_is_not_installed_is_counted_and_how_to_install_it(share: Path) -> None:
    (share / "backgrounds" / "mate" / "nature" / "Storm.png").unlink()
    with pytest.raises(PictureError) as caught:
        located(share)
    assert str(caught.value).startswith(
        f"{share}: 1 of the {len(PHOTOGRAPHS)} photographs are not installed, the first is Storm. Run: apt-get install "
    )


def test_tiles_are_the_centred_grid() -> None:
    picture = noise(0, 37, 50)
    got = list(tiles(picture, 16, 99))
    expected = [picture[2 + r * 16 : 18 + r * 16, 1 + c * 16 : 17 + c * 16] for r in range(2) for c in range(3)]
    np.testing.assert_array_equal(got, expected)  # disjoint, in reading order


def test_of_too_many_tiles_the_most_detailed_stay_in_order() -> None:
    picture = np.full((32, 48, 3), 128, np.uint8)
    picture[16:, :16] = noise(1, 16, 16)
    picture[:16, 32:] = noise(2, 16, 16) // 4
    picture[:16, :16] = np.arange(16)[None, :, None]
    got = list(tiles(picture, 16, 2))
    np.testing.assert_array_equal(got, [picture[:16, 32:], picture[16:, :16]])


def test_a_picture_smaller_than_a_tile_gives_none() -> None:
    assert list(tiles(noise(0, 15, 99), 16, 4)) == []


def test_tiles_are_halved_pictures_without_loss(share: Path, tmp_path: Path) -> None:
    destination = tmp_path / "out"
    trained, held_out = prepare(share, destination, side=8, most=2)
    assert (trained, held_out) == (2 * (len(PHOTOGRAPHS) - len(HELD_OUT)), 2 * len(HELD_OUT))
    files = {part: sorted((destination / part).iterdir()) for part in ("train", "held-out")}
    assert {part: len(found) for part, found in files.items()} == {"train": trained, "held-out": held_out}
    assert {path.name.rsplit("-", 1)[0] for path in files["held-out"]} == set(HELD_OUT)
    halved = noise(0).reshape(20, 2, 28, 2, 3).astype(np.uint16).sum((1, 3))
    expected = list(tiles(((halved + 2) // 4).astype(np.uint8), 8, 2))
    for index, tile in enumerate(expected):
        with Image.open(destination / "train" / f"{PHOTOGRAPHS[0].name}-{index:02d}.webp") as stored:
            np.testing.assert_array_equal(np.asarray(stored.convert("RGB")), tile)


def test_sixteen_bits_become_eight(share: Path, tmp_path: Path) -> None:
    path = file_of(share, PHOTOGRAPHS[0].pattern)
    values = np.full((32, 32, 3), 200, np.uint16) * 257 + 100
    with path.open("wb") as file:
        png.Writer(32, 32, bitdepth=16, greyscale=False).write_array(file, values.reshape(-1).tolist())
    prepare(share, tmp_path / "out", side=16, most=1)
    with Image.open(tmp_path / "out" / "train" / f"{PHOTOGRAPHS[0].name}-00.webp") as stored:
        assert np.asarray(stored).reshape(-1, 3).tolist() == [[200] * 3] * 256


def test_main_says_what_it_wrote(share: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for held in ("Storm", "Aqua"):
        Image.fromarray(noise(3, 128, 256)).save(share / "backgrounds" / "mate" / "nature" / f"{held}.png")
    assert main([str(tmp_path / "out"), "--share", str(share), "--side", "64"]) == 0
    assert capsys.readouterr().out == "2 tiles to train on, 2 held out\n"


def test_main_refuses_where_nothing_is_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "out"), "--share", str(tmp_path)]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert f"{len(PHOTOGRAPHS)} of the {len(PHOTOGRAPHS)} photographs are not installed" in written.err
    assert "apt-get install" in written.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [("--side", "63"), ("--most", "0")])
def test_main_refuses_useless_tiles(
    share: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, str]
) -> None:
    assert main([str(tmp_path / "out"), "--share", str(share), *options]) == 2
    assert "at least 64 pixels" in capsys.readouterr().err
