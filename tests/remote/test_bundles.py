"""Bundles and devices without ssh: what is sent, what stays on a device, and what is believed of what comes back."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("boards are POSIX machines", allow_module_level=True)

from edgeir.bundle import Bundle
from edgeir.bundle_change import Addition, Change, commit_change
from edgeir.bundle_writer import BundleWriter
from edgeir.errors import BundleError, OutOfSpace
from edgeir.manifest import Board, DeviceRecord, EngineNote
from edgeir.provenance import collect
from edgeir.remote import board_bundles
from edgeir.remote.addresses import Device
from edgeir.remote.board import QUESTIONS
from edgeir.remote.bundles import Pushed, pull, push

PLAN, CACHE = "engines/tensorrt-10.3-sm87.plan", "engines/tensorrt-10.3-sm87.timing"


class Root:
    """A device: its questions are answered here, its files copied."""

    def __init__(self, path: Path, *architectures: str) -> None:
        self.path = path
        self.device = Device(path.name, "u@h", root=str(path))
        self.architectures = architectures
        self.sent: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None
        path.mkdir()

    def ask(self, question: str, **arguments: Any) -> dict[str, Any]:
        if question == "architectures":
            return {"architectures": list(self.architectures)}
        return QUESTIONS[question](self.path, **arguments)

    def transfer(self, batch: list[str], folder: Path) -> None:
        self.meanwhile()
        for line in batch:
            verb, source, target = shlex.split(line)
            shutil.copyfile(folder / source, folder / target)
            self.sent += [source] if verb == "put" else []

    @property
    def copy(self) -> Path:
        return self.path / "bundles" / "gain.edgeir"

    def paths(self) -> list[str]:
        return [one.path for one in Bundle.open(self.copy).manifest.artifacts]


def pushed(root: Root, bundle: Path) -> Pushed:
    return push(root, Bundle.open(bundle))  # type: ignore[arg-type]


def pulled(root: Root, bundle: Path, *results: Any) -> tuple[str, ...]:
    return pull(root, Bundle.open(bundle), *results)  # type: ignore[arg-type]


def add(folder: Path, path: str, data: bytes, *, role: str = "engine", architecture: str = "sm87", **more: Any) -> None:
    """What a build does at its end."""
    bundle = Bundle.open(folder)
    notes = (EngineNote("tensorrt", "10.3", architecture, path, "x"),) if role == "engine" else ()
    record = DeviceRecord((path,), Board(), collect(seconds=1, argv=["edgeir", "build"]))
    parents = more.get("parents", ("model.onnx",) if role == "engine" else ())
    with BundleWriter(folder, force=True) as writer:
        writer.path(path).write_bytes(data)
        commit_change(writer, bundle, Change((Addition(path, role, parents),), notes, (record,)))


@pytest.fixture
def orin(tmp_path: Path) -> Root:
    return Root(tmp_path / "orin", "aarch64-01234567", "sm87")


def test_two_boards_of_one_kind_with_engines_of_their_own(orin: Root, bundle: Path, tmp_path: Path) -> None:
    nano = Root(tmp_path / "nano", "sm87")
    for board in (orin, nano):
        pushed(board, bundle)
        add(board.copy, PLAN, board.path.name.encode())
    assert pulled(orin, bundle) == (PLAN,)
    for _ in range(2):
        assert pushed(nano, bundle) == Pushed(0, 0, ())
    assert (nano.copy / PLAN).read_bytes() == b"nano"
    assert (bundle / PLAN).read_bytes() == b"orin"
    assert pulled(nano, bundle) == (PLAN,)
    assert (bundle / PLAN).read_bytes() == b"nano"
    assert (orin.copy / PLAN).read_bytes() == b"orin"


def test_an_engine_that_was_built_again_there(orin: Root, bundle: Path, make_bundle: Callable[..., Path]) -> None:
    pushed(orin, bundle)
    add(orin.copy, PLAN, b"first")
    pulled(orin, bundle)
    add(orin.copy, PLAN, b"second")
    add(bundle, "engines/ours.plan", b"ours")
    done = pushed(orin, bundle)
    assert (done.files, done.kept) == (1, (PLAN,))
    assert (orin.copy / PLAN).read_bytes() == b"second"
    assert (orin.copy / "engines/ours.plan").read_bytes() == b"ours"
    Bundle.open(orin.copy)


def test_the_board_puts_its_own_engine_in_the_place_of_a_pushed_one(orin: Root, bundle: Path) -> None:
    """Whatever it is sent: an engine may be built between the question and the answer."""
    pushed(orin, bundle)
    add(bundle, PLAN, b"ours")
    add(orin.copy, PLAN, b"theirs")
    manifest = (bundle / "manifest.json").read_text()
    made = board_bundles.assemble(orin.path, name="gain.edgeir", manifest=manifest)
    assert made == {"damaged": [], "kept": [PLAN], "dropped": []}
    assert (orin.copy / PLAN).read_bytes() == b"theirs"
    assert len(Bundle.open(orin.copy).manifest.engines) == 1


def test_engines_of_other_machines_and_results_stay_here(orin: Root, bundle: Path) -> None:
    add(bundle, PLAN, b"orin")
    add(bundle, CACHE, b"orin", role="timing-cache")
    add(bundle, "engines/tensorrt-10.3-sm110.plan", b"thor", architecture="sm110")
    add(bundle, "engines/tensorrt-10.3-sm110.timing", b"thor", role="timing-cache")
    add(bundle, "engines/rtx-1.0-sm86-sm87.plan", b"several", architecture="sm86-sm87")
    add(bundle, "engines/any.plan", b"any", architecture="any")
    add(bundle, "engines/ort-x86.optimised.onnx", b"ort", architecture="x86_64-89abcdef")
    add(bundle, "engines/ort-arm.optimised.onnx", b"ort", architecture="aarch64-01234567")
    add(bundle, "results/bench-orin.json", b"{}", role="bench", parents=("model.onnx",))
    pushed(orin, bundle)
    assert sorted(set(orin.paths()) - {"model.onnx", "reference.onnx"}) == [
        "engines/any.plan", "engines/ort-arm.optimised.onnx", "engines/rtx-1.0-sm86-sm87.plan", PLAN, CACHE,
    ]  # fmt: skip
    assert pushed(orin, bundle) == Pushed(0, 0, ())
    assert pulled(orin, bundle) == ()


def test_a_damaged_engine_goes_and_what_is_pushed_is_mended(orin: Root, bundle: Path) -> None:
    pushed(orin, bundle)
    add(orin.copy, PLAN, b"first")
    add(orin.copy, "results/old.json", b"{}", role="bench", parents=(PLAN,))
    add(orin.copy, CACHE, b"cache", role="timing-cache")
    for damage in (b"fXrst", b"cut"):  # of the same size, and shorter
        (orin.copy / PLAN).write_bytes(damage)
        done = pushed(orin, bundle)
        assert (done.files, done.kept, done.dropped) == (0, (CACHE,), (PLAN,))
        assert sorted(orin.paths()) == [CACHE, "model.onnx", "reference.onnx"]
        add(orin.copy, PLAN, b"first")
    (orin.copy / "model.onnx").write_bytes(b"x")
    assert pushed(orin, bundle).files == 1
    (orin.copy / "stray.txt").write_text("somebody put it there")
    assert pushed(orin, bundle).files == 0
    assert PLAN in orin.paths()
    (orin.copy / PLAN).unlink()
    assert pushed(orin, bundle).dropped == (PLAN,)
    Bundle.open(orin.copy)


@pytest.mark.parametrize(
    ("path", "role"),
    [("reference.onnx", "reference"), ("model.onnxruntime.onnx", "prepared"), ("engines/x.html", "report-html"),
     ("x.plan", "engine"), ("results/x.plan", "engine"), ("report.html", "engine"), ("engines", "engine")],
)  # fmt: skip
def test_a_board_may_bring_engines_and_nothing_else(orin: Root, bundle: Path, path: str, role: str) -> None:
    pushed(orin, bundle)
    add(orin.copy, path, b"evil", role=role)
    before = {file: file.read_bytes() for file in bundle.rglob("*") if file.is_file()}
    with pytest.raises(BundleError, match=rf"orin:{path}: the device offers a file that no build makes"):
        pulled(orin, bundle)
    assert {file: file.read_bytes() for file in bundle.rglob("*") if file.is_file()} == before


def test_a_note_that_would_write_on_the_screen(orin: Root, bundle: Path) -> None:
    pushed(orin, bundle)
    add(orin.copy, PLAN, b"engine", architecture="sm87\x1b[2J")
    with pytest.raises(BundleError, match="note on an engine cannot be printed"):
        pulled(orin, bundle)


def test_ours_goes_where_the_boards_own_is_damaged(orin: Root, bundle: Path) -> None:
    pushed(orin, bundle)
    add(orin.copy, PLAN, b"theirs")
    add(bundle, PLAN, b"ours")
    (orin.copy / PLAN).write_bytes(b"thXirs")
    done = pushed(orin, bundle)
    assert (done.files, done.dropped) == (1, (PLAN,))
    assert (orin.copy / PLAN).read_bytes() == b"ours"


def test_a_file_of_the_bundle_is_no_place_for_an_engine(orin: Root, bundle: Path) -> None:
    add(bundle, "engines/plan.json", b"{}", role="plan")
    pushed(orin, bundle)
    add(orin.copy, "engines/plan.json", b"evil")
    with pytest.raises(BundleError, match="no build makes"):
        pulled(orin, bundle)


def test_a_bundle_that_is_exported_again_while_engines_come(
    orin: Root, bundle: Path, make_bundle: Callable[..., Path]
) -> None:
    pushed(orin, bundle)
    add(orin.copy, PLAN, b"of the old graph")
    orin.meanwhile = lambda: make_bundle(bundle, gain=0.25)
    with pytest.raises(BundleError, match=r"model\.onnx: the bundle was changed while work on it went on"):
        pulled(orin, bundle)
    assert not (bundle / "engines").exists()
    Bundle.open(bundle)


def test_two_files_of_one_content(orin: Root, bundle: Path) -> None:
    pushed(orin, bundle)
    for name in ("a", "b"):
        add(orin.copy, f"engines/{name}.timing", b"empty", role="timing-cache")
    assert pulled(orin, bundle) == ("engines/a.timing", "engines/b.timing")
    assert pushed(orin, bundle) == Pushed(0, 0, ())
    shutil.rmtree(orin.copy)
    assert pushed(orin, bundle).files == 3  # model, reference, and one of the two
    assert (orin.copy / "engines/b.timing").read_bytes() == b"empty"


def test_results_are_given_what_is_brought(orin: Root, bundle: Path) -> None:
    pushed(orin, bundle)
    add(orin.copy, PLAN, b"engine")
    seen = []

    def results(there: Any, built: Change, writer: BundleWriter) -> Change:
        seen.append(([one.path for one in there.artifacts][-1], [one.path for one in built.files]))
        writer.path("results/r.json").write_bytes(b"{}")
        return Change((Addition("results/r.json", "bench", (PLAN,)),))

    assert pulled(orin, bundle, results) == (PLAN, "results/r.json")
    assert seen == [(PLAN, [PLAN])]


def test_files_on_their_way_may_be_written_to(orin: Root) -> None:
    """As sftp makes them of a read-only file: another upload could not go on, nor could the board flush them."""
    incoming = orin.path / "incoming" / "gain.edgeir"
    incoming.mkdir(parents=True)
    (incoming / "a").write_bytes(b"half")
    (incoming / "a").chmod(0o444)
    assert orin.ask("inventory", name="gain.edgeir")["incoming"] == {"a": 4}
    assert (incoming / "a").stat().st_mode & 0o777 == 0o600


def test_what_engines_can_be_for_on_this_machine(tmp_path: Path) -> None:
    from edgeir.runtime.ort_engine import architecture

    assert board_bundles.architectures(tmp_path)["architectures"][0] == architecture()


def test_a_full_disk_there(orin: Root, bundle: Path) -> None:
    class Full(Root):
        def ask(self, question: str, **arguments: Any) -> dict[str, Any]:
            answer = super().ask(question, **arguments)
            return {**answer, "free_bytes": 1000} if question == "inventory" else answer

    full = Full(orin.path.with_name("full"))
    with pytest.raises(OutOfSpace, match="full: the disk of the device is too full"):
        pushed(full, bundle)
    assert list(full.path.iterdir()) == []
