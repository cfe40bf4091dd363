"""Every layout in small, and every folder that is refused; no picture is opened, so the files are empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeir.errors import PictureError, UsageError
from edgeir.train.layouts import LAYOUTS, list_examples

KINDS = ("low", "haze", "rain", "snow", "low_haze", "low_rain", "low_snow", "haze_rain", "haze_snow")
KINDS += ("low_haze_rain", "low_haze_snow")


def tree(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")
    return root


def listed(root: Path, layout: str, scale: int = 1) -> list[tuple[str | None, str, str]]:
    """Degraded, clean and group, as short as they are in the tables below."""
    return [
        (
            None if example.degraded is None else example.degraded.relative_to(root).as_posix(),
            example.clean.relative_to(root).as_posix(),
            example.group,
        )
        for example in list_examples(layout, root, scale=scale)
    ]


ALONE = [
    ("folder", "clean", ["b.png", "a/c.jpg", "note.txt", ".hidden.png"], ["a/c.jpg", "b.png"]),
    ("bsd400", "denoise", ["a247012.jpg", "a2092.jpg", "00012.bmp"], ["a2092.jpg", "a247012.jpg"]),
    (
        "bsd400",
        "denoise",
        ["BSDS500/data/images/" + file for file in ("train/2092.jpg", "test/2018.jpg", "val/3096.jpg")],
        ["BSDS500/data/images/test/2018.jpg", "BSDS500/data/images/train/2092.jpg"],
    ),
    ("wed", "denoise", ["00002.bmp", "00001.bmp", "a247012.jpg"], ["00001.bmp", "00002.bmp"]),
    ("wed", "denoise", ["exploration_database_and_code/pristine_images/04744.bmp"], None),
    ("div2k", "denoise", ["DIV2K_train_HR/0001.png", "DIV2K_valid_HR/0801.png"], ["DIV2K_train_HR/0001.png"]),
    ("div2k", "denoise", ["0002.png", "0001.png"], ["0001.png", "0002.png"]),
    ("div2k-valid", "denoise", ["DIV2K_train_HR/0001.png", "DIV2K_valid_HR/0801.png"], ["DIV2K_valid_HR/0801.png"]),
    ("flickr2k", "denoise", ["Flickr2K_HR/000001.png"], None),
]


@pytest.mark.parametrize(("layout", "group", "files", "clean"), ALONE)
def test_clean_pictures(tmp_path: Path, layout: str, group: str, files: list[str], clean: list[str] | None) -> None:
    tree(tmp_path, *files)
    assert listed(tmp_path, layout) == [(None, file, group) for file in clean or files]


PAIRS = [
    ("rain100l", "rain", 1, [("rainy/rain-1.png", "gt/norain-1.png"), ("rainy/rain-2.png", "gt/norain-2.png")]),
    ("rain100l", "rain", 1, [("RainTrainL/rain-1.png", "RainTrainL/norain-1.png")]),
    ("rain100l-test", "rain", 1, [("rain-001.png", "norain-001.png"), ("rain-002.png", "norain-002.png")]),
    ("rain100l-test", "rain", 1, [("Rain100L/rainy/rain-001.png", "Rain100L/norain-001.png")]),
    ("rain100l-test", "rain", 1, [("input/1.png", "target/1.png")]),
    (
        "reside-ots",
        "haze",
        1,
        [("hazy/0025_0.8_0.04.jpg", "clear/0025.jpg"), ("hazy/0025_1_0.2.jpg", "clear/0025.jpg")],
    ),
    (
        "reside-ots",
        "haze",
        1,
        [
            ("synthetic/part1/0025_0.8_0.04.jpg", "original/0025.png"),
            ("synthetic/part2/3068_0.8_0.1.jpg", "original/3068.png"),
        ],
    ),
    ("reside-ots", "haze", 1, [("part1/0025_0.8_0.04.jpg", "clear/0025.jpg")]),
    ("sots-outdoor", "haze", 1, [("outdoor/hazy/0001_0.8_0.2.jpg", "outdoor/gt/0001.png")]),
    ("sots-outdoor", "haze", 1, [("input/0001_0.8_0.2.jpg", "target/0001.png")]),
    ("sots-outdoor", "haze", 1, [("hazy/0001_0.8_0.2.jpg", "clear/0001.png")]),
    (
        "gopro",
        "blur",
        1,
        [
            ("train/GOPR0372_07_00/blur/000047.png", "train/GOPR0372_07_00/sharp/000047.png"),
            ("train/GOPR0374_11_00/blur/000047.png", "train/GOPR0374_11_00/sharp/000047.png"),
        ],
    ),
    ("gopro", "blur", 1, [("GOPR0372_07_00/blur/000047.png", "GOPR0372_07_00/sharp/000047.png")]),
    ("gopro", "blur", 1, [("blur/GOPR0372_07_00_000047.png", "sharp/GOPR0372_07_00_000047.png")]),
    ("gopro-test", "blur", 1, [("test/input/1.png", "test/target/1.png")]),
    ("lol-v1", "low-light", 1, [("our485/low/2.png", "our485/high/2.png"), ("our485/low/5.png", "our485/high/5.png")]),
    ("lol-v1", "low-light", 1, [("Train/input/100.png", "Train/target/100.png")]),
    ("lol-v1", "low-light", 1, [("low/2.png", "gt/2.png")]),
    ("lol-v1-test", "low-light", 1, [("eval15/low/1.png", "eval15/high/1.png")]),
    ("div2k", "sr", 2, [("DIV2K_train_LR_bicubic/X2/0001x2.png", "DIV2K_train_HR/0001.png")]),
    ("div2k-valid", "sr", 4, [("DIV2K_valid_LR_bicubic/X4/0801x4.png", "DIV2K_valid_HR/0801.png")]),
    ("flickr2k", "sr", 3, [("Flickr2K_LR_bicubic/X3/000001x3.png", "Flickr2K_HR/000001.png")]),
    ("paired-folders", "pairs", 1, [("input/a.jpg", "target/a.png"), ("input/b/a.jpg", "target/b/a.png")]),
    ("paired-folders", "pairs", 1, [("lq/a.png", "gt/a.png")]),
    ("paired-folders", "sr", 2, [("LR/ax2.png", "HR/a.png")]),
    ("paired-folders", "sr", 2, [("LR/a.png", "HR/a.png")]),
]


@pytest.mark.parametrize(("layout", "group", "scale", "pairs"), PAIRS)
def test_pairs(tmp_path: Path, layout: str, group: str, scale: int, pairs: list[tuple[str, str]]) -> None:
    for degraded, clean in reversed(pairs):
        tree(tmp_path, degraded, clean)
    assert listed(tmp_path, layout, scale) == [(degraded, clean, group) for degraded, clean in pairs]


@pytest.mark.parametrize(("layout", "part"), [("cdd-11", "train/"), ("cdd-11", ""), ("cdd-11-test", "CDD-11_test/")])
def test_composite_degradations(tmp_path: Path, layout: str, part: str) -> None:
    tree(tmp_path, *(f"{part}{kind}/{name}.png" for kind in ("clear", *KINDS) for name in ("00001", "00002")))
    found = listed(tmp_path, layout)
    assert found == [
        (f"{part}{kind}/{name}.png", f"{part}clear/{name}.png", kind)
        for kind in sorted(KINDS)
        for name in ("00001", "00002")
    ]


def test_every_layout_is_tested_above() -> None:
    assert {row[0] for row in (*ALONE, *PAIRS)} | {"cdd-11", "cdd-11-test"} == set(LAYOUTS)


def test_order_is_that_of_the_characters(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{name}-{number}.png" for number in (10, 2, 1) for name in ("rain", "norain")))
    assert [row[0] for row in listed(tmp_path, "rain100l")] == ["rain-1.png", "rain-10.png", "rain-2.png"]


def test_the_group_can_be_named(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png")
    assert {example.group for example in list_examples("folder", tmp_path, group="jpeg")} == {"jpeg"}


def test_a_scale_with_clean_pictures_only(tmp_path: Path) -> None:
    assert listed(tree(tmp_path, "a.png"), "folder", 4) == [(None, "a.png", "sr")]


def test_clear_pictures_without_haze_may_be_there(tmp_path: Path) -> None:
    tree(tmp_path, "hazy/0025_0.8_0.04.jpg", "clear/0025.jpg", "clear/0026.jpg")
    assert len(list_examples("reside-ots", tmp_path)) == 1


def refusal(layout: str, root: Path, scale: int = 1) -> str:
    with pytest.raises((PictureError, UsageError)) as caught:
        list_examples(layout, root, scale=scale)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_degraded_pictures_without_clean_ones(tmp_path: Path) -> None:
    tree(tmp_path, "gt/norain-1.png", *(f"rainy/rain-{number}.png" for number in (1, 2, 3)))
    assert refusal("rain100l", tmp_path) == (
        f"{tmp_path / 'rainy/rain-2.png'}: this degraded picture has no clean counterpart "
        f"(expected {tmp_path / 'gt/norain-2.png'}, got 2 without one, beside 1 whole pairs). "
        "Unpack the data set again, or take these pictures away."
    )


def test_clean_pictures_without_degraded_ones(tmp_path: Path) -> None:
    tree(tmp_path, "our485/low/1.png", "our485/high/1.png", "our485/high/2.png")
    text = refusal("lol-v1", tmp_path)
    assert text.startswith(f"{tmp_path / 'our485/high/2.png'}: this clean picture has no degraded counterpart")
    assert f"expected {tmp_path / 'our485/low/2.png'}, got 1 without one" in text


def test_small_pictures_without_large_ones(tmp_path: Path) -> None:
    tree(tmp_path, "DIV2K_train_HR/0002.png", "DIV2K_train_LR_bicubic/X2/0001x2.png")
    text = refusal("div2k", tmp_path, 2)
    assert f"expected {tmp_path / 'DIV2K_train_HR/0001.png'}" in text


def test_names_that_the_layout_does_not_know(tmp_path: Path) -> None:
    tree(tmp_path, "hazy/0025_0.8.jpg", "hazy/copy.jpg", "clear/0025.jpg")
    assert f"{tmp_path / 'hazy/copy.jpg'}: this degraded picture has no" in refusal("reside-ots", tmp_path)


def test_two_clean_pictures_of_one_name(tmp_path: Path) -> None:
    tree(tmp_path, "input/a.png", "target/a.png", "target/a.jpg")
    assert "a.png: two clean pictures have the same name (expected one, got a.jpg as well)" in refusal(
        "paired-folders", tmp_path
    )


def test_a_kind_of_degradation_is_missing(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{kind}/1.png" for kind in ("clear", *KINDS) if kind != "snow"))
    text = refusal("cdd-11", tmp_path)
    assert f"{tmp_path / 'snow'}: a folder of this data set is missing" in text
    assert "expected 11 kinds of degradation, got 10" in text


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_no_root(tmp_path: Path, layout: str) -> None:
    text = refusal(layout, tmp_path / "typo")
    assert text.startswith(f"{tmp_path / 'typo'}: there is no such folder. Layout '{layout}' needs the folder that")


def test_a_file_as_root(tmp_path: Path) -> None:
    assert "this is a file, not a folder" in refusal("folder", tree(tmp_path, "a.png") / "a.png")


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_no_picture(tmp_path: Path, layout: str) -> None:
    tree(tmp_path, "readme.txt")
    assert f"{tmp_path}: there is no picture in this folder" in refusal(layout, tmp_path)


def test_an_empty_folder_of_degraded_pictures(tmp_path: Path) -> None:
    tree(tmp_path, "gt/norain-1.png", "rainy/readme.txt")
    assert refusal("rain100l", tmp_path).startswith(f"{tmp_path / 'rainy'}: there is no picture in this folder")


@pytest.mark.parametrize(
    ("layout", "files", "like"),
    [
        ("gopro", ["rainy/rain-1.png", "gt/norain-1.png"], "rain100l or rain100l-test"),
        ("rain100l", ["train/GOPR0372_07_00/blur/1.png", "train/GOPR0372_07_00/sharp/1.png"], "gopro"),
        ("lol-v1", ["synthetic/part1/0025_0.8_0.1.jpg", "original/0025.jpg"], "reside-ots"),
        ("gopro", ["our485/low/1.png", "our485/high/1.png"], "lol-v1"),
        ("gopro-test", ["train/blur/1.png", "train/sharp/1.png"], "gopro"),
        ("wed", [f"{kind}/1.png" for kind in ("clear", *KINDS)], "cdd-11 or cdd-11-test"),
        ("rain100l", ["lq/a.png", "gt/a.png"], "paired-folders"),
        ("bsd400", ["00001.bmp"], "wed"),
        ("gopro", ["a/b/x.png"], "folder"),
    ],
)
def test_the_root_looks_like_another_layout(tmp_path: Path, layout: str, files: list[str], like: str) -> None:
    text = refusal(layout, tree(tmp_path, *files))
    assert text.startswith(f"{tmp_path}: this folder has not the layout '{layout}' (expected ")
    assert text.endswith(f"It looks like {like}."), text


@pytest.mark.parametrize(
    ("files", "like"),
    [
        (["DIV2K_train_HR/0001.png", "DIV2K_train_LR_bicubic/X2/0001x2.png"], "div2k"),
        (["input/a.png", "target/a.png"], "gopro or gopro-test or lol-v1 or lol-v1-test"),
        (["noisy/a.png", "clean/a.png"], "paired-folders"),
    ],
)
def test_degraded_pictures_are_not_taken_for_clean(tmp_path: Path, files: list[str], like: str) -> None:
    text = refusal("folder", tree(tmp_path, *files))
    assert "some of these pictures are degraded" in text
    assert f"got what looks like {like})" in text


def test_what_was_found_is_said(tmp_path: Path) -> None:
    tree(tmp_path, "thumbs/a.png", "readme.txt")
    text = refusal("rain100l", tmp_path)
    assert (
        "(expected rainy/rain-1.png with gt/norain-1.png, got folders thumbs and 1 files, the first readme.txt)" in text
    )


def test_the_root_is_one_folder_off(tmp_path: Path) -> None:
    tree(tmp_path, "Derain/rainy/rain-1.png", "Derain/gt/norain-1.png")
    assert refusal("rain100l", tmp_path).endswith(f"Name {tmp_path / 'Derain'} instead.")
    assert refusal("rain100l", tmp_path / "Derain" / "gt").endswith(f"Name {tmp_path / 'Derain'} instead.")


def test_there_are_no_pairs_of_this_scale(tmp_path: Path) -> None:
    tree(tmp_path, "DIV2K_train_HR/0001.png", "DIV2K_train_LR_bicubic/X2/0001x2.png")
    text = refusal("div2k", tmp_path, 4)
    assert "this folder has not the layout 'div2k' at scale 4" in text
    assert "expected DIV2K_train_LR_bicubic/X4/1x4.png with DIV2K_train_HR/1.png" in text
    assert "take layout 'folder' on the large ones" in text


def test_pairs_of_one_size_have_no_scale(tmp_path: Path) -> None:
    text = refusal("rain100l", tmp_path, 2)
    assert "the pictures of layout 'rain100l' have one size (expected scale 1, got scale 2)" in text
    assert "div2k" in text


@pytest.mark.parametrize("scale", [0, -1])
def test_impossible_scale(tmp_path: Path, scale: int) -> None:
    assert f"expected 1 or more, got {scale}" in refusal("folder", tmp_path, scale)


def test_unknown_layout(tmp_path: Path) -> None:
    assert refusal("rain100", tmp_path) == "no layout has this name (got 'rain100'). Did you mean 'rain100l'?"
