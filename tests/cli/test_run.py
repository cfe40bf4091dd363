"""``edgeir run`` on good input: every kind of picture, every shape, folders, tiles, backends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import png
import pytest
from PIL import Image

from edgeir.cli.console import Console
from edgeir.cli.run import tile_progress
from edgeir.imaging.metrics import fidelity_db
from edgeir.imaging.reading import read_picture

ONE_STEP = 1.001 / 255


def restored_by_hand(bundle: Path, pixels: np.ndarray) -> np.ndarray:
    """What ONNX Runtime makes of a picture of the graph's own size, without any code of edgeir."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    output = session.run(None, {session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]})[0]
    return np.clip(output[0].transpose(1, 2, 0), 0, 1)


def test_the_output_is_what_the_graph_gives(cli: Any, made_static: Path, scene: Any, tmp_path: Path) -> None:
    scene(64, 64).save(tmp_path / "a.png")
    outcome = cli("run", made_static, tmp_path / "a.png", "-o", tmp_path / "b.png").done()
    assert outcome.out == f"{tmp_path / 'b.png'}\n"
    assert "UNTRAINED" in outcome.err
    expected = restored_by_hand(made_static, read_picture(tmp_path / "a.png").pixels)
    got = np.asarray(Image.open(tmp_path / "b.png"))
    np.testing.assert_array_equal(got, (expected * 255).round().astype(np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (5000, 13), (13, 5000), (65, 200)], ids=lambda size: "x".join(map(str, size)))
def test_any_size(cli: Any, made_static: Path, scene: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    scene(*size).save(tmp_path / "a.png")
    cli("run", made_static, tmp_path / "a.png", "-o", tmp_path / "b.png").done()
    with Image.open(tmp_path / "b.png") as image:
        assert (image.height, image.width) == size
        assert image.mode == "RGB"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_modes(cli: Any, made_static: Path, scene: Any, tmp_path: Path, mode: str) -> None:
    scene(40, 70, mode).save(tmp_path / "a.png")
    cli("run", made_static, tmp_path / "a.png", "-o", tmp_path / "b.png").done()
    source, result = read_picture(tmp_path / "a.png"), read_picture(tmp_path / "b.png")
    assert (result.height, result.width, result.grey) == (40, 70, source.grey)
    if mode == "RGBA":
        assert Image.open(tmp_path / "b.png").mode == "RGBA"
        np.testing.assert_array_equal(result.alpha, source.alpha)
    else:
        assert result.alpha is None


def test_sixteen_bits_stay(cli: Any, made_static: Path, tmp_path: Path) -> None:
    ramp = (np.arange(48 * 52).reshape(48, 52) * 24 % 65536).astype(np.uint16)
    with (tmp_path / "a.png").open("wb") as file:
        png.Writer(52, 48, greyscale=False, bitdepth=16).write(file, np.repeat(ramp, 3, axis=1).tolist())
    cli("run", made_static, tmp_path / "a.png", "-o", tmp_path / "b.png").done()
    result = read_picture(tmp_path / "b.png")
    assert (result.bits, result.height, result.width) == (16, 48, 52)
    steps = np.unique((result.pixels * 65535).round().astype(np.int64) % 257)
    assert len(steps) > 100, "16 bits that are 8 bits repeated"


def test_exif_orientation_is_applied(cli: Any, made_static: Path, scene: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(40, 70).save(tmp_path / "a.jpg", exif=exif, quality=95)
    cli("run", made_static, tmp_path / "a.jpg", "-o", tmp_path / "b.png").done()
    with Image.open(tmp_path / "b.png") as image:
        assert (image.height, image.width) == (70, 40)
        assert image.getexif().get(0x0112, 1) == 1


def test_webp_to_webp_and_jpeg_to_tiff(cli: Any, made_static: Path, scene: Any, tmp_path: Path) -> None:
    scene(64, 64).save(tmp_path / "a.webp", lossless=True)
    scene(64, 64).save(tmp_path / "a.png")
    for name in ("a.webp", "a.png"):
        cli("run", made_static, tmp_path / name, "-o", tmp_path / f"out-{name}").done()
    outputs = [read_picture(tmp_path / f"out-a.{suffix}").pixels for suffix in ("webp", "png")]
    np.testing.assert_array_equal(*outputs)
    cli("run", made_static, tmp_path / "a.webp", "-o", tmp_path / "b.tif").done()
    assert Image.open(tmp_path / "b.tif").format == "TIFF"


def test_into_a_folder(cli: Any, made_static: Path, scene: Any, tmp_path: Path, tree: Any) -> None:
    scene(20, 20).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    cli("run", made_static, tmp_path / "a.png", "-o", tmp_path / "out").done()
    assert tree(tmp_path / "out") == ["a.png"]


def test_folder_with_good_bad_and_other_files(
    cli: Any, made_static: Path, scene: Any, tmp_path: Path, tree: Any
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a.png", "b.jpg", "z.webp"):
        scene(30, 40).save(source / name)
    (source / "broken.png").write_bytes((source / "a.png").read_bytes()[:200])
    (source / "notes.txt").write_text("not a picture")
    (source / ".hidden.png").write_bytes(b"")
    scene(30, 40, "RGBA").save(source / "c.png")
    (source / "c.png").rename(source / "transparent.jpg")  # a PNG by content: the output cannot be a JPEG
    outcome = cli("run", made_static, source, "-o", tmp_path / "deep" / "out")
    outcome.sentence(2, "2 of 5 pictures could not be restored", "broken.png", "The others were restored.")
    assert "broken.png: the picture is damaged or cut short" in outcome.err
    assert "transparent.jpg: JPEG cannot hold the transparency" in outcome.err
    assert "2 files in" in outcome.err
    assert tree(tmp_path / "deep" / "out") == ["a.png", "b.jpg", "z.webp"]
    assert outcome.out.splitlines() == [str(tmp_path / "deep" / "out" / name) for name in ("a.png", "b.jpg", "z.webp")]


def test_json(cli: Any, made_static: Path, scene: Any, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    scene(30, 40).save(source / "a.png")
    (source / "b.png").write_bytes(b"")
    outcome = cli("run", made_static, source, "-o", tmp_path / "out", "--json")
    outcome.sentence(2, "b.png")
    value = json.loads(outcome.out)
    assert value["untrained"] is True
    assert value["restored"] == [{"input": str(source / "a.png"), "output": str(tmp_path / "out" / "a.png")}]
    assert [entry["input"] for entry in value["failed"]] == [str(source / "b.png")]
    tiling = json.loads((made_static / "manifest.json").read_text())["tiling"]
    assert (value["overlap_px"], value["overlap_from"]) == (tiling["overlap_px"], "measured")


def test_dynamic_sizes(cli: Any, made_dynamic: Path, scene: Any, tmp_path: Path) -> None:
    for height, width in ((64, 64), (80, 112), (128, 128), (33, 128), (129, 64), (300, 90)):
        scene(height, width).save(tmp_path / "a.png")
        cli("run", made_dynamic, tmp_path / "a.png", "-o", tmp_path / "b.png").done()
        with Image.open(tmp_path / "b.png") as image:
            assert (image.height, image.width) == (height, width)


def test_a_batch_of_two(cli: Any, weights_file: Path, made_static: Path, scene: Any, tmp_path: Path) -> None:
    bundle = tmp_path / "two.edgeir"
    cli(
        "export", "--checkpoint", weights_file, "--size", "64x64", "--batch", 2, "--target", "ort", "--out", bundle
    ).done()
    scene(64, 150).save(tmp_path / "a.png")  # three tiles: the second batch is half filling
    for path, name in ((bundle, "two.png"), (made_static, "one.png")):
        cli("run", path, tmp_path / "a.png", "-o", tmp_path / name).done()
    two, one = (read_picture(tmp_path / name).pixels for name in ("two.png", "one.png"))
    assert np.abs(two - one).max() <= ONE_STEP


def test_tiles_agree_with_the_whole_picture(
    cli: Any,
    made_dynamic: Path,
    scene: Any,
    tmp_path: Path,
    capsys: Any,
    record_property: Callable[[str, object], None],
) -> None:
    scene(128, 128).save(tmp_path / "a.png")
    cli("run", made_dynamic, tmp_path / "a.png", "-o", tmp_path / "whole.png").done()
    cli("run", made_dynamic, tmp_path / "a.png", "-o", tmp_path / "tiled.png", "--tile", 64, "--overlap", 32).done()
    whole, tiled = (read_picture(tmp_path / name).pixels for name in ("whole.png", "tiled.png"))
    measured = fidelity_db(tiled, whole)
    record_property("tiled_vs_whole_db", measured)
    with capsys.disabled():
        print(f"\ntiled against whole, dynamic micro bundle: {measured:.1f} dB")
    assert measured >= 50


def test_the_overlap_that_was_measured_is_the_default(cli: Any, static: Path, scene: Any, tmp_path: Path) -> None:
    scene(64, 150).save(tmp_path / "a.png")

    def run(name: str, *options: object) -> tuple[dict[str, Any], str]:
        outcome = cli("run", static, tmp_path / "a.png", "-o", tmp_path / name, "--json", *options).done()
        return json.loads(outcome.out), outcome.err

    def came_from(value: dict[str, Any]) -> tuple[int, str]:
        return value["overlap_px"], value["overlap_from"]

    manifest = json.loads((static / "manifest.json").read_text())
    assert manifest["tiling"]["overlap_px"] in (0, 16, 32), "an export measures it"
    del manifest["tiling"]  # as in bundles of before
    (static / "manifest.json").write_text(json.dumps(manifest))
    plain, said = run("default.png")
    assert came_from(plain) == (16, "default")
    assert "share" not in said
    tiling = {"overlap_px": 32, "tile_px": [64, 64], "fidelity_db": 55.0, "border_ratio": 1.0, "pictures": 2}
    (static / "manifest.json").write_text(json.dumps({**manifest, "tiling": tiling}))
    measured, said = run("measured.png")
    assert came_from(measured) == (32, "measured")
    assert "Tiles share 32 pixels, as was measured" in said
    asked, said = run("asked.png", "--overlap", 16)
    assert came_from(asked) == (16, "asked")
    assert "share" not in said
    pictures = {name: read_picture(tmp_path / f"{name}.png").pixels for name in ("default", "measured", "asked")}
    np.testing.assert_array_equal(pictures["default"], pictures["asked"])
    assert not np.array_equal(pictures["default"], pictures["measured"])


def test_backends_agree(cli: Any, weights_file: Path, made_static: Path, scene: Any, tmp_path: Path) -> None:
    scene(70, 64).save(tmp_path / "a.png")
    for backend in ("ort", "ort-reference", "torch", "torch-fast"):
        extra = ("--checkpoint", weights_file) if backend.startswith("torch") else ()
        out = tmp_path / f"{backend}.png"
        cli("run", made_static, tmp_path / "a.png", "-o", out, "--backend", backend, *extra).done()
    wanted = read_picture(tmp_path / "torch.png").pixels
    for backend in ("ort", "ort-reference", "torch-fast"):
        assert np.abs(read_picture(tmp_path / f"{backend}.png").pixels - wanted).max() <= ONE_STEP, backend


def test_tiles_share_the_statistics_of_their_picture(
    cli: Any, made_static: Path, made_dynamic: Path, scene: Any, tmp_path: Path
) -> None:
    """As was measured when the bundle was made, unless they are asked not to; one tile has nothing to share."""
    scene(100, 150).save(tmp_path / "a.png")
    scene(64, 64).save(tmp_path / "small.png")
    restored = {}
    for name, options in {
        "usual": (),
        "shared": ("--tile-statistics", "shared"),
        "own": ("--tile-statistics", "own"),
    }.items():
        outcome = cli("run", made_static, tmp_path / "a.png", "-o", tmp_path / f"{name}.png", *options, "--json").done()
        assert json.loads(outcome.out)["tile_statistics"] == ("own" if name == "own" else "shared")
        restored[name] = read_picture(tmp_path / f"{name}.png").pixels
        cli("run", made_static, tmp_path / "small.png", "-o", tmp_path / f"small-{name}.png", *options).done()
    assert (
        json.loads(cli("run", made_static, tmp_path / "small.png", "-o", tmp_path / "s.png", "--json").done().out)[
            "tile_statistics"
        ]
        is None
    )
    np.testing.assert_array_equal(restored["usual"], restored["shared"])
    assert np.abs(restored["shared"] - restored["own"]).max() > 0
    small = [(tmp_path / f"small-{name}.png").read_bytes() for name in restored]
    assert small[0] == small[1] == small[2]
    outcome = cli("run", made_dynamic, tmp_path / "a.png", "-o", tmp_path / "b.png", "--tile-statistics", "shared")
    outcome.sentence(2, "tiles cannot share statistics", "no graph for that")


def test_tiles_that_do_not_share_though_they_should_are_told_of(
    cli: Any, made_static: Path, scene: Any, tmp_path: Path
) -> None:
    says = "tiles that share come closer to the whole, and the backend 'ort' does"
    scene(100, 150).save(tmp_path / "a.png")
    scene(64, 64).save(tmp_path / "small.png")
    for source, options, said in (
        ("a.png", ("--backend", "ort-reference"), True),
        ("a.png", ("--backend", "ort-reference", "--tile-statistics", "own"), False),
        ("a.png", (), False),
        ("small.png", ("--backend", "ort-reference"), False),
    ):
        outcome = cli("run", made_static, tmp_path / source, "-o", tmp_path / "b.png", *options).done()
        assert (says in outcome.err) == said, (source, options)


@pytest.mark.parametrize("batch", [1, 4, 8])
def test_a_line_for_every_tenth_of_the_tiles(batch: int, capsys: pytest.CaptureFixture[str]) -> None:
    progress = tile_progress(Console(), "a.png")
    for done in range(batch, 97 + batch, batch):
        progress(min(done, 97), 97)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1].endswith("a.png: 97 of 97 tiles")
