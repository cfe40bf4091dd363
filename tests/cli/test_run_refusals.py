"""``edgeir run`` on bad input: one sentence, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def place(tmp_path: Path, scene: Any) -> Path:
    """A folder with one good picture, and one folder without any."""
    folder = tmp_path / "place"
    (folder / "empty").mkdir(parents=True)
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("no picture")
    scene(30, 40).save(folder / "good.png")
    scene(30, 40).save(folder / "good.jpg")
    scene(30, 40, "RGBA").save(folder / "clear.png")
    (folder / "cut.jpg").write_bytes((folder / "good.jpg").read_bytes()[:-400])
    (folder / "text.png").write_text("this is a text")
    (folder / "nothing.png").write_bytes(b"")
    return folder


# arguments after the bundle, words of the sentence
REFUSED = {
    "empty folder": (("empty", "-o", "out"), ("empty", "no picture in this folder")),
    "folder of texts": (("texts", "-o", "out"), ("texts", "no picture in this folder")),
    "truncated JPEG": (("cut.jpg", "-o", "out.png"), ("cut.jpg", "damaged or cut short")),
    "text named .png": (("text.png", "-o", "out.png"), ("text.png", "not a picture that edgeir reads")),
    "empty file": (("nothing.png", "-o", "out.png"), ("nothing.png", "the file is empty")),
    "missing input": (("gone.png", "-o", "out.png"), ("gone.png", "there is no such file")),
    "missing output folder": (("good.png", "-o", "no/out.png"), ("no", "there is no such folder")),
    "onto the input": (("good.png", "-o", "good.png"), ("good.png", "would overwrite itself")),
    "onto the input, other spelling": (("good.png", "-o", "empty/../good.png"), ("would overwrite itself",)),
    "into the input's folder": (("good.png", "-o", "."), ("would overwrite itself",)),
    "folder onto itself": ((".", "-o", "."), ("would overwrite themselves",)),
    "folder to a file": ((".", "-o", "good.jpg"), ("needs a folder",)),
    "unknown suffix": (("good.png", "-o", "out.pngg"), ("'.pngg'", "Did you mean '.png'?")),
    "no suffix": (("good.png", "-o", "out"), ("no picture format",)),
    "transparency to JPEG": (("clear.png", "-o", "out.jpg"), ("JPEG cannot hold the transparency", ".png")),
    "tile of another size": (("good.png", "-o", "out.png", "--tile", "128"), ("--tile", "expected 64x64", "got 128")),
    "tile 0": (("good.png", "-o", "out.png", "--tile", "0"), ("--tile", "expected 64x64")),
    "overlap as wide as the tile": (("good.png", "-o", "out.png", "--overlap", "64"), ("--overlap", "0 to 63")),
    "negative overlap": (("good.png", "-o", "out.png", "--overlap", "-1"), ("--overlap", "0 to 63")),
    "tile that is no number": (("good.png", "-o", "out.png", "--tile", "big"), ("--tile", "edgeir run --help")),
    "unknown statistics": (("good.png", "-o", "out.png", "--tile-statistics", "shard"), ("Did you mean 'shared'?",)),
    "statistics of another backend": (
        ("good.png", "-o", "out.png", "--tile-statistics", "shared", "--backend", "ort-reference"),
        ("tiles cannot share statistics", "'ort-reference' cannot"),
    ),
    "no threads": (("good.png", "-o", "out.png", "--threads", "0"), ("--threads", "1")),
    "unknown backend": (("good.png", "-o", "out.png", "--backend", "trch"), ("'trch'", "Did you mean 'torch'?")),
    "torch without weights": (("good.png", "-o", "out.png", "--backend", "torch"), ("--checkpoint FILE",)),
    "torch without weights, folder": ((".", "-o", "out", "--backend", "torch"), ("--checkpoint FILE",)),
    "missing checkpoint": (
        ("good.png", "-o", "out.png", "--backend", "torch", "--checkpoint", "w.safetensors"),
        ("w.safetensors", "no such checkpoint"),
    ),
    "unknown answer": (("good.png", "-o", "out.png", "--on-bad-output", "rety"), ("'rety'", "Did you mean 'retry'?")),
    "plugins for another": (("good.png", "-o", "out.png", "--plugins", "/x.so"), ("--plugins", "takes no plugins")),
    "no output": (("good.png",), ("--output", "edgeir run --help")),
    "unknown option": (("good.png", "-o", "out.png", "--tiles", "8"), ("--tiles", "--tile")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(cli: Any, made_static: Path, place: Path, case: str, monkeypatch: Any, unchanged: Any) -> None:
    arguments, words = REFUSED[case]
    monkeypatch.chdir(place)
    with unchanged(place):
        outcome = cli("run", made_static, *arguments)
        outcome.sentence(2, *words)
        assert outcome.out == ""


def test_dynamic_tiles(cli: Any, made_dynamic: Path, place: Path, unchanged: Any) -> None:
    with unchanged(place):
        for tile in (48, 72, 144):
            outcome = cli("run", made_dynamic, place / "good.png", "-o", place / "out.png", "--tile", tile)
            outcome.sentence(2, "--tile", "64x64 to 128x128 in steps of 16", str(tile))


def test_an_input_behind_a_link_is_not_overwritten(cli: Any, made_static: Path, scene: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    scene(20, 20).save(source / "a.png")
    before = (source / "a.png").read_bytes()
    (out / "a.png").symlink_to(source / "a.png")
    cli("run", made_static, source, "-o", out).sentence(2, "would overwrite itself")
    assert (source / "a.png").read_bytes() == before


def test_all_pictures_bad(cli: Any, made_static: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "in" / name).write_bytes(b"no")
    line = cli("run", made_static, tmp_path / "in", "-o", tmp_path / "out").sentence(2, "2 of 2 pictures", "a.png")
    assert "The others" not in line


@pytest.mark.parametrize(("mode", "says"), [("retry", "in FP32 it is no better"), ("stop", "--on-bad-output retry")])
def test_an_overflowing_network_writes_nothing(
    cli: Any, made_static: Path, place: Path, unchanged: Any, monkeypatch: pytest.MonkeyPatch, mode: str, says: str
) -> None:
    monkeypatch.setattr(
        "edgeir.runtime.ort_session.OrtSession.run", lambda self, pictures: np.full_like(pictures, np.nan)
    )
    with unchanged(place):
        arguments = ("run", made_static, place / "good.png", "-o", place / "out.png", "--on-bad-output", mode)
        cli(*arguments).sentence(1, "NaN or infinity", says)


def test_in_a_folder_the_picture_is_named(
    cli: Any, made_static: Path, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        scene(20, 20).save(tmp_path / "in" / name)
    monkeypatch.setattr(
        "edgeir.runtime.ort_session.OrtSession.run", lambda self, pictures: np.full_like(pictures, np.nan)
    )
    arguments = ("run", made_static, tmp_path / "in", "-o", tmp_path / "out", "--on-bad-output", "stop")
    cli(*arguments).sentence(1, "a.png, onnxruntime", "the output is bad")


# Damage to a bundle. Each returns words of the sentence.


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def flip_model(bundle: Path) -> tuple[str, ...]:
    flip(bundle / "model.onnx", 100_000)
    return ("model.onnx", "not what the manifest vouches for")


def flip_report(bundle: Path) -> tuple[str, ...]:
    flip(bundle / "report.html", 500)
    return ("report.html", "not what the manifest vouches for")


def flip_brace(bundle: Path) -> tuple[str, ...]:
    flip(bundle / "manifest.json", 0)
    return ("manifest.json", "not JSON")


def flip_key(bundle: Path) -> tuple[str, ...]:
    flip(bundle / "manifest.json", (bundle / "manifest.json").read_bytes().index(b'"precision"') + 1)
    return ("manifest.json", "'precision'")


def flip_digest(bundle: Path) -> tuple[str, ...]:
    text = (bundle / "manifest.json").read_bytes()
    flip(bundle / "manifest.json", text.index(b'"sha256": "', text.index(b'"artifacts"')) + 20)
    return ("not what the manifest vouches for",)


def remove_plan(bundle: Path) -> tuple[str, ...]:
    (bundle / "plan.yaml").unlink()
    return ("plan.yaml", "missing")


def remove_manifest(bundle: Path) -> tuple[str, ...]:
    (bundle / "manifest.json").unlink()
    return ("has no manifest.json", "edgeir export")


def add_file(bundle: Path) -> tuple[str, ...]:
    (bundle / "notes.txt").write_text("mine")
    return ("notes.txt", "does not list this file")


def add_hidden_file(bundle: Path) -> tuple[str, ...]:
    (bundle / ".notes").write_text("mine")
    return (".notes", "does not list this file")


def link_model(bundle: Path) -> tuple[str, ...]:
    (bundle / "model.onnx").rename(bundle.parent / "elsewhere.onnx")
    (bundle / "model.onnx").symlink_to(bundle.parent / "elsewhere.onnx")
    return ("model.onnx", "links")


def link_folder(bundle: Path) -> tuple[str, ...]:
    (bundle / "engines").symlink_to(bundle.parent)
    return ("engines", "links")


def climb(bundle: Path) -> tuple[str, ...]:
    edit(bundle, lambda manifest: manifest["artifacts"][0].update(path="../reference.onnx"))
    return ("../reference.onnx", "'..'")


def absolute(bundle: Path) -> tuple[str, ...]:
    edit(bundle, lambda manifest: manifest["artifacts"][0].update(path="/etc/passwd"))
    return ("/etc/passwd", "absolute")


def newer(bundle: Path) -> tuple[str, ...]:
    edit(bundle, lambda manifest: manifest.update(schema_version=99))
    return ("newer edgeir", "got 99", "Update edgeir.")


def cut(bundle: Path) -> tuple[str, ...]:
    os.truncate(bundle / "model.onnx", 1000)
    return ("model.onnx", "listed size", "got 1000 bytes")


DAMAGE = [
    flip_model, flip_report, flip_brace, flip_key, flip_digest, remove_plan, remove_manifest, add_file,
    add_hidden_file, link_model, link_folder, climb, absolute, newer, cut,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damaged_bundle(cli: Any, static: Path, place: Path, unchanged: Any, damage: Any) -> None:
    words = damage(static)
    with unchanged(place.parent):
        cli("run", static, place / "good.png", "-o", place / "out.png").sentence(2, *words)
        cli("inspect", static).sentence(2, *words)


def test_damaged_engine(cli: Any, made_rtx: Path, place: Path, tmp_path: Path, unchanged: Any) -> None:
    import shutil

    bundle = Path(shutil.copytree(made_rtx, tmp_path / "rtx.edgeir"))
    (engine,) = (bundle / "engines").iterdir()
    flip(engine, engine.stat().st_size // 2)
    with unchanged(tmp_path):
        outcome = cli("run", bundle, place / "good.png", "-o", place / "out.png")
        outcome.sentence(2, engine.name, "not what the manifest vouches for")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("gone.edgeir", ("there is no such bundle", "edgeir export")),
        ("good.png", ("this is a file", "the folder of a bundle")),
        ("empty", ("no manifest.json",)),
        ("good.png/x.edgeir", ("good.png/x.edgeir",)),
    ],
)
def test_not_a_bundle(cli: Any, place: Path, unchanged: Any, path: str, words: tuple[str, ...]) -> None:
    with unchanged(place):
        cli("run", place / path, place / "good.png", "-o", place / "out.png").sentence(2, *words)


def test_no_flipped_bit_of_a_manifest_is_a_crash(static: Path) -> None:
    """Not every flipped bit can be noticed (the manifest does not hash itself); none may end in a traceback."""
    from edgeir.errors import EdgeIRError
    from edgeir.manifest import Manifest

    data = (static / "manifest.json").read_bytes()
    noticed = 0
    for position in range(len(data)):
        for bit in (1, 128):
            changed = bytearray(data)
            changed[position] ^= bit
            try:
                Manifest.from_json(bytes(changed), where="manifest.json")
            except EdgeIRError:
                noticed += 1
    assert noticed > len(data)  # every second flip: bit 128 is never UTF-8
