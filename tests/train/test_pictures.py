"""The picture cache keeps its bound and gives what the files hold; spoiled pictures are found before training."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import numpy as np
import png
import pytest
from PIL import Image

from edgeir.errors import PictureError, UsageError
from edgeir.train.layouts import Example
from edgeir.train.pictures import PictureCache, decode, mean_gradient, readable, sharpest

HEIGHT, WIDTH = 12, 20
BYTES = HEIGHT * WIDTH * 3


def colours(seed: int = 0, height: int = HEIGHT, width: int = WIDTH, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def save16(path: Path, values: np.ndarray) -> Path:
    height, width, channels = values.shape
    with path.open("wb") as file:
        writer = png.Writer(width, height, bitdepth=16, greyscale=channels < 3)
        writer.write_array(file, values.reshape(-1).tolist())
    return path


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-200])
    return path


def test_colours(tmp_path: Path) -> None:
    got = decode(save(tmp_path / "a.png", colours()))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, colours())


def test_grey_becomes_three_channels(tmp_path: Path) -> None:
    grey = colours()[..., 0]
    np.testing.assert_array_equal(decode(save(tmp_path / "a.png", grey)), grey[..., None].repeat(3, 2))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    values = colours(channels=4)
    np.testing.assert_array_equal(decode(save(tmp_path / "a.png", values)), values[..., :3])


def test_sixteen_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
    got = decode(save16(tmp_path / "a.png", values))
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, values)


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: the rows of the file are columns of the scene
    Image.fromarray(colours()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), np.rot90(colours(), -1))


@pytest.mark.parametrize("sixteen", [False, True])
@pytest.mark.parametrize("shrink", [2, 3, 5])
def test_shrinking_is_the_rounded_mean_of_blocks(tmp_path: Path, shrink: int, sixteen: bool) -> None:
    values = colours().astype(np.uint16) * 257 if sixteen else colours()
    path = save16(tmp_path / "a.png", values) if sixteen else save(tmp_path / "a.png", values)
    height, width = HEIGHT // shrink, WIDTH // shrink
    blocks = values[: height * shrink, : width * shrink].reshape(height, shrink, width, shrink, 3)
    got = decode(path, shrink=shrink)
    assert got.dtype == values.dtype
    np.testing.assert_array_equal(got, np.floor(blocks.mean((1, 3)) + 0.5))


def test_shrinking_white_by_the_most_does_not_overflow(tmp_path: Path) -> None:
    white = np.full((256, 257, 1), 65535, np.uint16)
    assert decode(save16(tmp_path / "a.png", white), shrink=256).tolist() == [[[65535] * 3]]


@pytest.mark.parametrize("shrink", [0, -2, 257])
def test_impossible_shrinking(tmp_path: Path, shrink: int) -> None:
    with pytest.raises(UsageError, match=rf"shrink: .*expected a whole number from 1 to 256, got {shrink}"):
        decode(tmp_path / "a.png", shrink=shrink)
    with pytest.raises(UsageError, match="shrink"):
        readable([], min_side_px=1, shrink=shrink)


def test_too_small_to_shrink(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"a\.png: .*too small.*expected at least 13x13 pixels, got 12x20"):
        decode(save(tmp_path / "a.png", colours()), shrink=13)


def test_the_cache_gives_the_same_array_and_nobody_can_change_it(tmp_path: Path) -> None:
    cache = PictureCache(BYTES)
    path = save(tmp_path / "a.png", colours())
    first = cache.get(path)
    path.unlink()
    assert cache.get(str(path)) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0, 0] = 1


def test_least_recently_used_goes_first_and_the_bound_holds(tmp_path: Path) -> None:
    paths = {name: save(tmp_path / f"{name}.png", colours(ord(name))) for name in "abcd"}
    cache = PictureCache(3 * BYTES + BYTES - 1)
    for name in "abcad":  # a is used again, so that b is the oldest when d comes
        cache.get(paths[name])
        assert cache.held_bytes <= cache.memory_bytes
    assert (len(cache), cache.held_bytes) == (3, 3 * BYTES)
    for path in paths.values():
        path.unlink()
    for name in "acd":
        np.testing.assert_array_equal(cache.get(paths[name]), colours(ord(name)))
    with pytest.raises(PictureError, match="no such file"):
        cache.get(paths["b"])


def test_the_bound_holds_with_pictures_of_every_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    paths = [save(tmp_path / f"{n}.png", colours(n, *rng.integers(1, 40, 2))) for n in range(30)]
    cache = PictureCache(5000)
    for index in rng.integers(0, 30, 300):
        cache.get(paths[index])
        held = [values.nbytes for values in cache._kept.values()]
        assert cache.held_bytes == sum(held) <= 5000


def test_a_picture_greater_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    small = save(tmp_path / "a.png", colours(height=2, width=2))
    large = save(tmp_path / "b.png", colours())
    cache = PictureCache(BYTES - 1)
    kept = cache.get(small)
    np.testing.assert_array_equal(cache.get(large), colours())
    assert cache.get(small) is kept
    assert len(cache) == 1


def test_no_memory_at_all(tmp_path: Path) -> None:
    cache = PictureCache(0)
    np.testing.assert_array_equal(cache.get(save(tmp_path / "a.png", colours())), colours())
    assert len(cache) == 0
    with pytest.raises(UsageError, match=r"memory_bytes: .*expected 0 or more, got -1"):
        PictureCache(-1)


def test_each_shrinking_is_a_picture_of_its_own(tmp_path: Path) -> None:
    cache = PictureCache(10 * BYTES)
    path = save(tmp_path / "a.png", colours())
    assert cache.get(path).shape == (HEIGHT, WIDTH, 3)
    half = cache.get(path, shrink=2)
    assert half.shape == (HEIGHT // 2, WIDTH // 2, 3)
    assert cache.get(path, shrink=2) is half
    assert cache.held_bytes == BYTES + BYTES // 4


def test_a_pickled_cache_is_empty(tmp_path: Path) -> None:
    cache = PictureCache(BYTES)
    path = save(tmp_path / "a.png", colours())
    cache.get(path)
    copy = pickle.loads(pickle.dumps(cache))
    assert (copy.memory_bytes, copy.held_bytes, len(copy)) == (BYTES, 0, 0)
    np.testing.assert_array_equal(copy.get(path), colours())
    assert len(pickle.dumps(cache)) < 200


def test_threads_share_a_cache(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{n}.png", colours(n)) for n in range(6)]
    cache = PictureCache(3 * BYTES)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for index in np.random.default_rng(seed).integers(0, 6, 60):
            if not np.array_equal(cache.get(paths[index]), colours(int(index))):
                wrong.append(int(index))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.held_bytes == len(cache) * BYTES <= 3 * BYTES


def test_spoiled_pictures_are_named_with_the_reason(tmp_path: Path) -> None:
    good = save(tmp_path / "good.png", colours())
    damaged = cut(save(tmp_path / "damaged.png", colours()))
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    gone = tmp_path / "gone.png"
    files = [damaged, good, text, empty, gone]
    kept, skipped = readable([Example(file, None, "x") for file in files], min_side_px=4)
    assert kept == [Example(good, None, "x")]
    assert [file for file, _ in skipped] == [damaged, text, empty, gone]
    reasons = [reason for _, reason in skipped]
    for reason, says in zip(reasons, ["damaged", "not a picture", "empty", "No such file"], strict=True):
        assert says in reason
        assert str(tmp_path) not in reason


def test_a_clean_picture_spoils_all_its_pairs_and_is_named_once(tmp_path: Path) -> None:
    clean = cut(save(tmp_path / "clean.png", colours()))
    good = save(tmp_path / "good.png", colours())
    hazy = [save(tmp_path / f"{n}.png", colours(n)) for n in range(3)]
    pairs = [Example(clean, file, "haze") for file in hazy] + [Example(good, hazy[0], "haze")]
    kept, skipped = readable(pairs, min_side_px=4)
    assert kept == pairs[3:]
    assert [file for file, _ in skipped] == [clean]


def test_a_damaged_degraded_picture_spoils_its_pair(tmp_path: Path) -> None:
    clean = save(tmp_path / "clean.png", colours())
    damaged = cut(save(tmp_path / "damaged.png", colours()))
    good = Example(clean, None, "x")
    kept, skipped = readable([good, Example(clean, damaged, "x")], min_side_px=4)
    assert (kept, [file for file, _ in skipped]) == ([good], [damaged])


@pytest.mark.parametrize(
    ("side", "shrink", "kept"),
    [(12, 1, True), (13, 1, False), (6, 2, True), (7, 2, False), (2, 5, True), (3, 5, False)],
)
def test_pictures_smaller_than_the_patch(tmp_path: Path, side: int, shrink: int, kept: bool) -> None:
    small = save(tmp_path / "small.png", colours())
    large = save(tmp_path / "large.png", colours(height=200, width=200))
    good, skipped = readable([Example(f, None, "x") for f in (large, small)], min_side_px=side, shrink=shrink)
    assert (len(good), len(skipped)) == ((2, 0) if kept else (1, 1))
    if not kept:
        after = f" after shrinking by {shrink}" if shrink > 1 else ""
        assert skipped == [(small, f"12x20 pixels are too few{after} for patches of {side}x{side}")]


def test_nothing_is_left(tmp_path: Path) -> None:
    files = [cut(save(tmp_path / f"{n}.png", colours())) for n in range(3)]
    with pytest.raises(
        PictureError, match=r"not one of these pictures can be used \(got 3 bad; the first, 0\.png: .*cut"
    ):
        readable([Example(file, None, "x") for file in files], min_side_px=4)
    assert readable([], min_side_px=4) == ([], [])


def test_pairs_of_a_scale(tmp_path: Path) -> None:
    pair = Example(
        save(tmp_path / "large.png", colours(height=24, width=40)), save(tmp_path / "a.png", colours()), "sr"
    )
    assert readable([pair], min_side_px=24, scale=2) == ([pair], [])
    with pytest.raises(PictureError) as caught:
        readable([pair], min_side_px=4, scale=3)
    assert str(caught.value) == (
        f"{pair.degraded}: the pictures of this pair do not fit each other (expected {pair.clean} to be 3 times its "
        "size, got 12x20 and 24x40 (height x width)). The names pair pictures of different scenes or scales: check the "
        "folders."
    )


def test_pairs_of_different_size(tmp_path: Path) -> None:
    pair = Example(save(tmp_path / "b.png", colours(height=13)), save(tmp_path / "a.png", colours()), "x")
    with pytest.raises(PictureError, match=r"do not fit each other .*to be its size, got 12x20 and 13x20"):
        readable([pair], min_side_px=4)


def test_each_file_is_decoded_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeir.train import pictures

    decoded: list[Path] = []
    read = pictures.read_picture
    monkeypatch.setattr(pictures, "read_picture", lambda path: decoded.append(path) or read(path))
    clean = save(tmp_path / "clean.png", colours())
    hazy = [save(tmp_path / f"{n}.png", colours(n)) for n in range(2)]
    pairs = [Example(clean, file, "haze") for file in hazy]
    readable(pairs, min_side_px=4)
    readable(pairs, min_side_px=8)
    assert sorted(decoded) == sorted([clean, *hazy])
    cut(hazy[0])
    kept, _ = readable(pairs, min_side_px=4)
    assert kept == pairs[1:]


def test_the_sharpest_keep_their_order(tmp_path: Path) -> None:
    contrasts = [0, 8, 2, 6, 4]
    board = np.indices((HEIGHT, WIDTH)).sum(0) % 2
    files = [
        save(tmp_path / f"{n}.png", np.stack([contrast * board] * 3, 2).astype(np.uint8))
        for n, contrast in enumerate(contrasts)
    ]
    examples = [Example(file, None, "x") for file in files]
    assert mean_gradient(decode(files[1])) == pytest.approx(8 / 255)
    assert sharpest(examples, share=0.5) == [examples[1], examples[3], examples[4]]
    assert sharpest(examples, share=0.01) == [examples[1]]
    assert sharpest(examples, share=1) == examples
    assert mean_gradient(decode(files[1], shrink=2)) == 0  # what is left of the board is even


def test_detail_does_not_depend_on_the_number_of_bits(tmp_path: Path) -> None:
    wide = mean_gradient(decode(save16(tmp_path / "a.png", colours().astype(np.uint16) * 257)))
    assert wide == pytest.approx(mean_gradient(colours()), rel=1e-12)
