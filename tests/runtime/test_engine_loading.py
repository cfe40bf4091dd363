"""What is refused before anything is deserialized, and in which order."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeir.bundle import Bundle
from edgeir.errors import BundleError, EdgeIRError, MissingDependency, UsageError
from edgeir.manifest import SCHEMA_VERSION
from edgeir.ops.table import FUSED_OPS
from edgeir.runtime.engine_choice import choose_engine
from edgeir.runtime.engine_runtimes import ENGINE_RUNTIMES
from edgeir.runtime.engine_session import EngineSession
from edgeir.runtime.gpu_device import OutOfDeviceMemory
from edgeir.runtime.opening import open_session

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
    taken = choose_engine(bundle, ENGINE_RUNTIMES["rtx"], **how, as_bytes=True)
    assert taken.path == "engines/rtx-uint8.plan"
    assert taken.form is not None
    assert taken.form.name == "uint8"


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


class TestPlugins:
    @pytest.fixture
    def library(self, tmp_path: Path) -> Path:
        path = tmp_path.resolve() / "libedgeir_plugins.so"
        path.write_text("plugins: " + " ".join(op.name for op in FUSED_OPS))
        return path

    @pytest.fixture
    def needs(self, device: Any, tmp_path: Path) -> Bundle:
        files = {"model.tensorrt-10.3-plugins.onnx": ("prepared", device.onnx_bytes())}
        made = device.make_bundle(
            tmp_path / "bundle", {"tensorrt": device.plan(SIZE)}, parents=tuple(files), files=files
        )
        assert isinstance(made, Bundle)
        return made

    def test_a_missing_plugin(self, fakes: Any, needs: Bundle) -> None:
        with pytest.raises(MissingDependency, match=r"needs edgeir's plugins.*EdgeirKeyGraph.*edgeir plugins build"):
            EngineSession(needs, "tensorrt")
        assert fakes.deserialized == []

    def test_an_engine_that_was_built_with_them(self, fakes: Any, device: Any, tmp_path: Path) -> None:
        bundle = device.make_bundle(tmp_path / "b", {"tensorrt-plugins": device.plan(SIZE)})
        with pytest.raises(MissingDependency, match=r"needs edgeir's plugins"):
            EngineSession(bundle, "tensorrt")
        assert fakes.deserialized == []

    def test_they_are_loaded_from_the_listed_path(self, fakes: Any, needs: Bundle, library: Path) -> None:
        with EngineSession(needs, "tensorrt", plugins=[library]):
            assert fakes.trt.registry._opened == [str(library)]
            assert fakes.trt.registry._libraries
        assert not fakes.trt.registry._libraries, "taken out again"

    def test_some_of_them_are_not_enough(self, fakes: Any, needs: Bundle, library: Path) -> None:
        library.write_text("plugins: EdgeirKeyGraph")
        with pytest.raises(MissingDependency, match="expected EdgeirKeyGraphAttention, EdgeirGstAttention"):
            EngineSession(needs, "tensorrt", plugins=[library])
        assert fakes.deserialized == []

    def test_a_library_without_plugins(self, fakes: Any, needs: Bundle, library: Path) -> None:
        library.write_text("nothing")
        with pytest.raises(MissingDependency, match=r"cannot load the library \(got no plugins in it"):
            EngineSession(needs, "tensorrt", plugins=[library])

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("relative.so", r"must be absolute \(got relative\.so\)\. Name it as /"),
            ("/nowhere/x.so", r"no such library \(got /nowhere/x\.so: No such file or directory\)"),
            ("link", r"may not be named by a link \(got \S+link\.so\)\. Name \S+libedgeir_plugins\.so"),
            ("through a link", r"may not be named by a link"),
            ("dots", r"may not be named by a link \(got \S+/\.\./\S+\)"),
            ("folder", r"a library is a regular file"),
            ("pipe", r"a library is a regular file"),
        ],
    )
    def test_paths(self, fakes: Any, needs: Bundle, library: Path, name: str, says: str) -> None:
        folder = library.parent
        path = {"link": folder / "link.so", "folder": folder / "folder", "pipe": folder / "pipe"}.get(name, Path(name))
        if name == "link":
            path.symlink_to(library)
        elif name == "through a link":
            (folder / "other").symlink_to(folder)
            path = folder / "other" / library.name
        elif name == "dots":
            path = Path(f"{folder}/../{folder.name}/{library.name}")
        elif name == "folder":
            path.mkdir()
        elif name == "pipe":
            os.mkfifo(path)
        with pytest.raises(UsageError, match=f"--plugins: .*{says}"):
            EngineSession(needs, "tensorrt", plugins=[path])
        assert fakes.trt.registry._opened == []
        assert fakes.deserialized == []

    @pytest.mark.parametrize("backend", ["rtx", "ort"])
    def test_other_backends_take_none(
        self, fakes: Any, device: Any, tmp_path: Path, library: Path, backend: str
    ) -> None:
        bundle = device.make_bundle(tmp_path / "b", {"rtx": device.plan(SIZE)})
        with pytest.raises(UsageError, match=r"--plugins: .*takes no .*plugins\. Leave --plugins out"):
            open_session(bundle, backend, plugins=[library])
