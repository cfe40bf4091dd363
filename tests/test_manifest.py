"""``manifest.json``: what goes in comes out, and every other content is refused with the key's name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from edgeir.errors import BundleError
from edgeir.manifest import (
    PRECISIONS,
    SCHEMA_VERSION,
    Artifact,
    AxisRange,
    Board,
    DeviceRecord,
    EngineNote,
    Manifest,
    Tiling,
    safe_path,
)
from edgeir.manifest_schema import ManifestJson
from edgeir.provenance import collect
from edgeir.spec import ModelSpec, SizeRule, TensorSpec, WeightsSpec

MANIFEST = Manifest(
    name="exda-tiny",
    precision="fp16",
    input=TensorSpec("input", (1, 3, "H", "W")),
    ranges={"H": AxisRange(64, 256, 1024), "W": AxisRange(64, 256, 2048)},
    batch=1,
    model=ModelSpec(
        "exda-tiny", "exda", {"dim": 16}, SizeRule(8, 16), weights=WeightsSpec("seeded", False, "0" * 64, 1)
    ),
    provenance=collect(seconds=1.5, argv=["edgeir", "export"]),
    artifacts=(
        Artifact("reference.onnx", "reference", 9, "a" * 64),
        Artifact("model.onnx", "model", 10, "b" * 64, ("reference.onnx",)),
        Artifact("engines/rtx-1.7-any.plan", "engine", 11, "c" * 64, ("model.onnx",)),
    ),
    engines=(
        EngineNote("rtx", "1.7.1", "any", "engines/rtx-1.7-any.plan", "Built without a GPU."),
        EngineNote("tensorrt", "", "", None, "TensorRT is not installed here."),
    ),
)


def test_round_trip() -> None:
    text = MANIFEST.to_json()
    assert Manifest.from_json(text, where="manifest.json") == MANIFEST
    assert text.endswith("}\n")
    assert json.loads(text)["input"]["shape"] == [1, 3, "H", "W"]


def test_what_was_measured_of_tiles() -> None:
    tiling = Tiling(overlap_px=32, tile_px=(256, 192), fidelity_db=61.7, border_ratio=1.05, pictures=2)
    for measured in (tiling, dataclasses.replace(tiling, fidelity_db=None)):
        manifest = dataclasses.replace(MANIFEST, tiling=measured)
        assert Manifest.from_json(manifest.to_json(), where="manifest.json") == manifest
    assert "tiling" not in json.loads(MANIFEST.to_json())


def test_where_added_files_come_from() -> None:
    record = DeviceRecord(
        ("model.onnx",), Board("36.4.3", "6.2", "MAXN_SUPER", clocks_pinned=True, driver="540.4.0"), MANIFEST.provenance
    )
    for known in (record, dataclasses.replace(record, board=Board())):
        manifest = dataclasses.replace(MANIFEST, devices=(known,))
        assert Manifest.from_json(manifest.to_json(), where="manifest.json") == manifest
    assert "devices" not in json.loads(MANIFEST.to_json())


@pytest.mark.parametrize("version", [1, 2])
def test_bundles_of_older_schemas_are_read(version: int) -> None:
    old = Manifest.from_json(changed(lambda d: d.update(schema_version=version)), where="manifest.json")
    assert old.schema_version == version < SCHEMA_VERSION == 3
    assert dataclasses.replace(old, schema_version=SCHEMA_VERSION) == MANIFEST
    assert old.tiling is None
    assert old.devices == ()


def device_json(**changes: object) -> list[dict[str, object]]:
    board = {"l4t": None, "jetpack": None, "power_mode": None, "clocks_pinned": None, "driver": None}
    whole = {"files": ["model.onnx"], "board": board, "provenance": MANIFEST.provenance.to_dict()}
    return [{**whole, **changes}]


def tiling_json(**changes: object) -> dict[str, object]:
    whole = {"overlap_px": 32, "tile_px": [256, 192], "fidelity_db": 61.7, "border_ratio": 1.05, "pictures": 2}
    return {**whole, **changes}


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    data = json.loads(MANIFEST.to_json())
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(presicion="fp16"), r"unknown key 'presicion'\. Did you mean 'precision'\?"),
        (
            lambda d: d["artifacts"][1].update(sha265="x"),
            r"unknown key 'artifacts\.1\.sha265'\. Did you mean 'sha256'\?",
        ),
        (lambda d: d["ranges"]["H"].update(max=3), r"unknown key 'ranges\.H\.max'\. Did you mean 'maximum'\?"),
        (lambda d: d["input"].update(size=3), r"unknown key 'input\.size'\. Known: dtype, name, shape, value_range\."),
        (lambda d: d.pop("batch"), r"the key 'batch' is missing"),
        (lambda d: d["artifacts"][0].pop("bytes"), r"the key 'artifacts\.0\.bytes' is missing"),
        (lambda d: d.update(precision="fp4"), r"the key 'precision' is wrong \(got 'fp4'"),
        (lambda d: d.update(batch=0), r"the key 'batch' is wrong \(got 0: Input should be greater"),
        (lambda d: d.update(batch="1"), r"the key 'batch' is wrong"),
        (lambda d: d["artifacts"][0].update(sha256="A" * 64), r"the key 'artifacts\.0\.sha256' is wrong"),
        (lambda d: d["artifacts"][0].update(bytes=-1), r"the key 'artifacts\.0\.bytes' is wrong"),
        (lambda d: d["ranges"]["H"].update(optimum=9), r"'ranges\.H' is wrong .*minimum <= optimum <= maximum"),
        (lambda d: d["ranges"].pop("W"), r"every dynamic axis needs its range.*expected H, W, got H\)"),
        (lambda d: d["artifacts"].append(d["artifacts"][0]), r"'reference\.onnx' is listed twice"),
        (lambda d: d["artifacts"][0].update(path="Model.onnx", parents=[]), r"'model\.onnx' is listed twice"),
        (
            lambda d: d["artifacts"][0].update(path="../x"),
            r"may not stand in a manifest \(got '\.\./x', it contains '\.\.'",
        ),
        (lambda d: d["artifacts"][0].update(path="/etc/passwd"), r"it is absolute"),
        (
            lambda d: d["artifacts"][1].update(parents=["gone.onnx"]),
            r"a parent that is not listed \(got 'gone\.onnx'\)",
        ),
        (lambda d: d["engines"][0].update(path="engines/b.plan"), r"engine note names a file that is not listed"),
        (lambda d: d["model"].pop("name"), r"the model spec cannot be read \(got KeyError: 'name'\)"),
        (lambda d: d["provenance"].pop("command"), r"the provenance cannot be read \(got KeyError: 'command'\)"),
        (lambda d: d.update(schema_version=4, future=1), r"comes from a newer edgeir .*got 4\)\. Update edgeir\."),
        (
            lambda d: d.update(tiling=tiling_json(overlap=3)),
            r"unknown key 'tiling\.overlap'\. Did you mean 'overlap_px'\?",
        ),
        (lambda d: d.update(tiling={"overlap_px": 32}), r"the key 'tiling\.tile_px' is missing"),
        (lambda d: d.update(tiling=tiling_json(overlap_px=-1)), r"the key 'tiling\.overlap_px' is wrong"),
        (lambda d: d.update(tiling=tiling_json(overlap_px=192)), r"'tiling' is wrong .*overlap_px below both sides"),
        (lambda d: d.update(tiling=tiling_json(tile_px=[256])), r"'tiling\.tile_px"),
        (lambda d: d.update(tiling=tiling_json(border_ratio=None)), r"the key 'tiling\.border_ratio' is wrong"),
        (lambda d: d.update(devices=device_json(files=["gone"])), r"record names a file that is not listed.*'gone'"),
        (lambda d: d.update(devices=device_json() * 2), r"two devices' records name the same file .*'model\.onnx'"),
        (lambda d: d.update(devices=device_json(files=[])), r"the key 'devices\.0\.files' is wrong"),
        (lambda d: d.update(devices=device_json(boards=1)), r"unknown key 'devices\.0\.boards'.*'board'"),
        (lambda d: d.update(devices=device_json(board={})), r"the key 'devices\.0\.board\.l4t' is missing"),
        (lambda d: d.update(devices=device_json(provenance={})), r"the provenance cannot be read"),
    ],
)
def test_refusals(change: Callable[[dict[str, Any]], object], says: str) -> None:
    with pytest.raises(BundleError, match=says) as caught:
        Manifest.from_json(changed(change), where="b.edgeir/manifest.json")
    assert str(caught.value).startswith("b.edgeir/manifest.json: ")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, b"\xff\xfe\x00", '{"schema_version": true}'])
def test_other_texts(text: str | bytes) -> None:
    with pytest.raises(BundleError):
        Manifest.from_json(text, where="m")


@pytest.mark.parametrize(
    "path",
    ["", ".", "/a", "a/../b", "..", "./a", "a//b", "a/", "a\\b", "C:x", "a\nb", "a\0b", "manifest.json", "a/./b"],
)
def test_unsafe_paths(path: str) -> None:
    assert safe_path(path)


@pytest.mark.parametrize("path", ["model.onnx", "engines/tensorrt-10.3-sm87.plan", "é.json", "a..b", "x/manifest.json"])
def test_safe_paths(path: str) -> None:
    assert safe_path(path) is None


def test_not_a_number_is_not_written() -> None:
    endless = dataclasses.replace(MANIFEST.provenance, seconds=float("inf"))
    with pytest.raises(ValueError, match="JSON"):
        dataclasses.replace(MANIFEST, provenance=endless).to_json()


def test_the_schema_names_the_precisions() -> None:
    assert ManifestJson.model_fields["precision"].annotation.__args__ == PRECISIONS  # type: ignore[union-attr]
