"""What is refused before anything is deserialized, and in which order."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeir.bundle import Bundle
from edgeir.errors import BundleError, EdgeIRError, MissingDependency
from edgeir.imaging.picture import Picture
from edgeir.manifest import SCHEMA_VERSION
from edgeir.ops.table import FUSED_OPS
from edgeir.runtime.byte_session import lost_depth
from edgeir.runtime.engine_choice import choose_engine
from edgeir.runtime.engine_runtimes import ENGINE_RUNTIMES
from edgeir.runtime.engine_session import EngineSession
from edgeir.runtime.gpu_device import OutOfDeviceMemory
from edgeir.runtime.opening import open_session
from edgeir.runtime.session import closing

SIZE = (1, 3, 8, 8)


def flipped(folder: Path) -> None:
    path = folder / "engines" / "rtx.plan"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "manifest.json"
        data = json.loads(path.read_text(encoding="utf-8"))
        change(data)
        path.write_text(json.dumps(data), encoding="utf-8")

    return apply


def linked(folder: Path) -> None:
    path = folder / "engines" / "rtx.plan"
    path.rename(folder.parent / "away.plan")
    path.symlink_to(folder.parent / "away.plan")


def engine(number: int, **values: object) -> Callable[[Path], None]:
    return changed(lambda data: data["engines"][number].update(values))


REFUSED = {
    "one flipped byte": (flipped, r"rtx\.plan: the content is not what the manifest vouches for"),
    "another version": (
        engine(0, version="1.6.0.1"),
        r"rtx\.plan: the engine is for another version of TensorRT-RTX.*expected 1\.7\.1\.116, got 1\.6\.0\.1.*"
        r"Run here: edgeir build \S*bundle --target rtx",
    ),
    "another SM": (
        engine(0, architecture="sm86-sm120"),
        r"rtx\.plan: the engine is for another GPU \(expected sm89, got sm120, sm86\)\. Run here: edgeir build",
    ),
    "no SM": (engine(0, architecture="native"), r"does not say for which GPU it is \(expected sm89, got native\)"),
    "an SM that only looks alike": (engine(0, architecture="sm8-sm890"), r"for another GPU"),
    "no engine": (
        changed(lambda data: data["engines"].clear()),
        r"bundle: the bundle has no engine for TensorRT-RTX\. Run here: edgeir build",
    ),
    "a note without a file": (
        engine(0, path=None, note="TensorRT-RTX is not installed here."),
        r"no engine for TensorRT-RTX \(got TensorRT-RTX is not installed here\.?\)",
    ),
    "a manifest from the future": (
        changed(lambda data: data.update(schema_version=SCHEMA_VERSION + 1)),
        r"the bundle comes from a newer edgeir",
    ),
    "a link": (linked, r"rtx\.plan: a bundle may not contain links"),
    "a link to a folder": (
        lambda folder: ((folder / "engines").rename(folder.parent / "e"), (folder / "engines").symlink_to("../e")),
        r"engines: a bundle may not contain links",
    ),
    "two dots": (
        changed(lambda data: data["artifacts"][-1].update(path="engines/../../rtx.plan")),
        r"it contains '\.\.'",
    ),
    "an absolute path": (
        changed(lambda data: data["engines"][0].update(path="/tmp/x.plan")),
        r"a file that is not listed",
    ),
    "a file that is not listed": (engine(0, path="engines/other.plan"), r"names a file that is not listed"),
    "another hash": (
        changed(lambda data: data["artifacts"][-1].update(sha256="0" * 64)),
        r"the content is not what the manifest vouches for",
    ),
    "another size": (changed(lambda data: data["artifacts"][-1].update(bytes=1)), r"does not have the listed size"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_deserialized(fakes: Any, device: Any, tmp_path: Path, case: str) -> None:
    damage, says = REFUSED[case]
    device.make_bundle(tmp_path / "bundle", {"rtx": device.plan(SIZE)})
    damage(tmp_path / "bundle")
    with pytest.raises(EdgeIRError, match=says) as caught:
        open_session(Bundle.open(tmp_path / "bundle"), "rtx")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code in (2, 3)
    assert fakes.deserialized == []
    assert fakes.rtx.looked_at == []


def test_what_changes_after_the_bundle_was_opened_is_seen(fakes: Any, device: Any, tmp_path: Path) -> None:
    """No gap between check and use: the bytes that are hashed are those that are deserialized."""
    plan = device.plan(SIZE)
    bundle = device.make_bundle(tmp_path / "bundle", {"rtx": plan})
    flipped(bundle.path)
    with pytest.raises(BundleError, match="not what the manifest vouches for"):
        EngineSession(bundle, "rtx")
    assert fakes.deserialized == []
    flipped(bundle.path)  # and back
    with EngineSession(bundle, "rtx"):
        assert fakes.deserialized == [plan]
        assert fakes.rtx.looked_at == [plan[:64]]
    assert not any(fakes.rtx.host_code)


def test_the_engine_that_fits_is_taken(fakes: Any, device: Any, tmp_path: Path) -> None:
    plans = {name: device.plan(SIZE, behaviour=name) for name in ("rtx-old", "rtx-other", "rtx-fits", "rtx-bytes")}
    notes = {
        "rtx-old": ("rtx", "1.6.0.0", "sm89"),
        "rtx-other": ("rtx", device.RTX_VERSION, "sm120"),
        "rtx-fits": ("rtx", device.RTX_VERSION, "sm86-sm89"),
    }
    bundle = device.make_bundle(tmp_path / "bundle", plans, notes=notes)
    with EngineSession(bundle, "rtx") as session:
        assert session.engine == "engines/rtx-fits.plan"
    assert fakes.deserialized == [plans["rtx-fits"]]


def test_bytes_are_taken_where_they_are_asked_for(device: Any, tmp_path: Path) -> None:
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan(SIZE), "rtx-uint8": device.plan((1, 8, 8, 3))})
    artifacts = tuple(
        dataclasses.replace(one, parents=("model.uint8.onnx",)) if "uint8" in one.path else one
        for one in bundle.manifest.artifacts
    )
    bundle = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, artifacts=artifacts))
    how = {"version": device.RTX_VERSION, "architecture": "sm89"}
    floats = choose_engine(bundle, ENGINE_RUNTIMES["rtx"], **how)
    assert (floats.path, floats.form) == ("engines/rtx.plan", None)
    taken = choose_engine(bundle, ENGINE_RUNTIMES["rtx"], **how, ends="bytes")
    assert taken.path == "engines/rtx-uint8.plan"
    assert taken.form is not None
    assert taken.form.name == "uint8"


@pytest.mark.parametrize("order", [("tensorrt", "tensorrt-plugins"), ("tensorrt-plugins", "tensorrt")])
def test_plugins_decide_among_engines(fakes: Any, device: Any, tmp_path: Path, order: tuple[str, str]) -> None:
    library = tmp_path.resolve() / "lib.so"
    library.write_text("plugins: " + " ".join(op.name for op in FUSED_OPS))
    bundle = device.make_bundle(tmp_path / "b", dict.fromkeys(order, device.plan(SIZE)))
    said: list[str] = []
    for plugins, name in (((), "tensorrt"), ((library,), "tensorrt-plugins")):
        with EngineSession(bundle, "tensorrt", plugins=plugins, say=said.append) as session:
            assert session.engine == f"engines/{name}.plan"
    assert said == []


def test_plugins_that_no_engine_needs(fakes: Any, device: Any, tmp_path: Path) -> None:
    library = tmp_path.resolve() / "lib.so"
    library.write_text("plugins: Other")
    bundle = device.make_bundle(tmp_path / "b", {"tensorrt": device.plan(SIZE)})
    said: list[str] = []
    with EngineSession(bundle, "tensorrt", plugins=[library], say=said.append) as session:
        assert session.engine == "engines/tensorrt.plan"
    assert said == [
        "engines/tensorrt.plan was built without plugins, and none fits that was built with them: they go unused."
    ]


NV12 = "model.nv12-bt709-limited.onnx"


def of_frames(device: Any, folder: Path, *floats: str) -> Bundle:
    """A bundle whose engine takes NV12, and more of floats."""
    plans = {"rtx-nv12": device.plan((1, 12, 8, 1), dtype="UINT8", mean=True)} | dict.fromkeys(
        floats, device.plan(SIZE)
    )
    bundle = device.make_bundle(folder, plans, files={NV12: ("bytes", b"graph")})
    artifacts = tuple(
        dataclasses.replace(one, parents=(NV12,)) if one.path == "engines/rtx-nv12.plan" else one
        for one in bundle.manifest.artifacts
    )
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, artifacts=artifacts))


@pytest.mark.parametrize("ends", ["floats", "bytes"])
def test_nv12_is_refused_for_pictures_at_once(fakes: Any, device: Any, tmp_path: Path, ends: Any) -> None:
    bundle = of_frames(device, tmp_path / "b")
    with pytest.raises(
        BundleError, match=r"rtx-nv12\.plan: the engine takes NV12.*Run here: edgeir build \S*b --target rtx --floats$"
    ):
        open_session(bundle, "rtx", ends=ends)
    assert fakes.deserialized == []
    with EngineSession(bundle, "rtx") as session:  # for frames
        assert session.form.kind == "nv12"


@pytest.mark.parametrize("ends", ["floats", "bytes"])
def test_pictures_take_the_engine_of_floats_beside_one_of_nv12(
    fakes: Any, device: Any, tmp_path: Path, ends: Any
) -> None:
    bundle = of_frames(device, tmp_path / "b", "rtx")
    with closing(open_session(bundle, "rtx", ends=ends)) as session:
        assert session.engine == "engines/rtx.plan"  # type: ignore[attr-defined]
    with EngineSession(bundle, "rtx", ends="bytes") as frames:
        assert frames.engine == "engines/rtx-nv12.plan"


def test_open_session_takes_the_engine_that_is_asked_for(fakes: Any, device: Any, tmp_path: Path) -> None:
    plans = {"rtx": device.plan(SIZE), "rtx-uint8": device.plan((1, 8, 8, 3), dtype="UINT8")}
    bundle = device.make_bundle(tmp_path / "b", plans, files={"model.uint8.onnx": ("bytes", b"graph")})
    artifacts = tuple(
        dataclasses.replace(one, parents=("model.uint8.onnx",)) if "rtx-uint8" in one.path else one
        for one in bundle.manifest.artifacts
    )
    bundle = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, artifacts=artifacts))
    for ends, name in (("floats", "rtx"), ("bytes", "rtx-uint8")):
        with closing(open_session(bundle, "rtx", ends=ends)) as session:
            assert session.engine == f"engines/{name}.plan"  # type: ignore[attr-defined]
            deep = Picture(pixels=np.zeros((8, 8, 3), np.float32), bits=16)
            said = lost_depth(session, deep)
            assert (said is not None) == (ends == "bytes")
            assert lost_depth(session, dataclasses.replace(deep, bits=8)) is None
    assert said == (
        "The engine takes and gives bytes: of the picture's 16 bits per channel 8 are left. 'edgeir build --floats' "
        "builds one that keeps them."
    )


@pytest.mark.parametrize(
    ("capability", "says"),
    [
        ((7, 5), r"Run here: edgeir build \S+ --target rtx$"),
        ((9, 0), r"TensorRT-RTX has no target for sm90: use --backend tensorrt or ort\.$"),
    ],
)
def test_what_to_do_about_another_gpu(
    device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], says: str
) -> None:
    fakes = device.install(monkeypatch, tmp_path / "cache", capability=capability)
    for name, plans in (("another", {"rtx": device.plan(SIZE)}), ("none", {})):
        bundle = device.make_bundle(tmp_path / name, plans)
        with pytest.raises(EdgeIRError, match=says):
            EngineSession(bundle, "rtx")
    fakes.assert_nothing_left()


def test_any_gpu(device: Any, tmp_path: Path) -> None:
    notes = {"rtx": ("rtx", device.RTX_VERSION, "any")}
    bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan(SIZE)}, notes=notes)
    assert choose_engine(bundle, ENGINE_RUNTIMES["rtx"], version=device.RTX_VERSION, architecture="sm75").note.path


class TestTheRuntimeItself:
    def test_an_engine_that_is_none(self, fakes: Any, device: Any, tmp_path: Path) -> None:
        bundle = device.make_bundle(tmp_path / "b", {"rtx": b"x" * 100})
        with pytest.raises(MissingDependency, match=r"rtx\.plan: TensorRT-RTX 1\.7\.1\.116 refuses the engine"):
            EngineSession(bundle, "rtx")

    @pytest.mark.parametrize("words", ["CUDA out of memory", "OutOfMemory (requested 1 byte)"])
    def test_weights_that_do_not_fit(self, fakes: Any, device: Any, tmp_path: Path, words: str) -> None:
        bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan(SIZE)})
        fakes.rtx.refuse["deserialize_cuda_engine"] = words
        with pytest.raises(OutOfDeviceMemory, match="not enough memory left"):
            EngineSession(bundle, "rtx")

    @pytest.mark.parametrize(
        ("answer", "error", "says"),
        [
            ("INVALID 3", MissingDependency, r"calls the engine invalid here \(got version_mismatch, unsupported_cc\)"),
            ("INVALID 0", MissingDependency, r"invalid here \(got no reason\)\. Run here: edgeir build"),
            ("INVALID 16", OutOfDeviceMemory, "not enough memory left for the engine"),
        ],
    )
    def test_its_look_at_the_header(
        self, fakes: Any, device: Any, tmp_path: Path, answer: str, error: type[Exception], says: str
    ) -> None:
        bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan(SIZE)})
        fakes.rtx.refuse["get_engine_validity"] = answer
        with pytest.raises(error, match=says):
            EngineSession(bundle, "rtx")
        assert fakes.deserialized == []

    def test_an_engine_that_could_be_faster(self, fakes: Any, device: Any, tmp_path: Path) -> None:
        bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan(SIZE)})
        fakes.rtx.refuse["get_engine_validity"] = "SUBOPTIMAL 0"
        said: list[str] = []
        EngineSession(bundle, "rtx", say=said.append).close()
        assert said[0].startswith("engines/rtx.plan: the runtime calls the engine slower than it could be here.")

    @pytest.mark.parametrize(
        ("plan", "says"),
        [
            ({"input": "picture"}, r"expected image in, restored out, got picture in, restored out"),
            ({"dtype": "INT32"}, r"image in float32, float16, uint8 or bool, got DataType\.INT32"),
            ({"dtype": "UINT8", "out_dtype": "FLOAT"}, r"bytes at both ends or at none, got uint8 in, float32 out"),
            ({"dtype": "BOOL"}, r"pictures in float32, float16 or uint8, got bool"),
            ({"format": "HWC"}, r"image in linear layout, got TensorFormat\.HWC"),
        ],
    )
    def test_other_ends(self, fakes: Any, device: Any, tmp_path: Path, plan: dict[str, str], says: str) -> None:
        bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan(SIZE, **plan)})
        with pytest.raises(BundleError, match=f"ends are not those of edgeir's networks.*{says}"):
            EngineSession(bundle, "rtx")

    def test_another_rank(self, fakes: Any, device: Any, tmp_path: Path) -> None:
        bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan((3, 8, 8))})
        with pytest.raises(BundleError, match=r"a batch of pictures, got image of 3 sides"):
            EngineSession(bundle, "rtx")

    def test_too_old(self, fakes: Any, device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "8.6.2")
        bundle = device.make_bundle(tmp_path / "b", {"tensorrt": device.plan(SIZE)})
        with pytest.raises(MissingDependency, match=r"too old for sessions \(expected 10\.1 or later, got 8\.6\.2\)"):
            EngineSession(bundle, "tensorrt")
