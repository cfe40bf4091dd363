"""Writing bundles: the old one or the new one, and nothing else, however the run ends."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from edgeir import bundle_writer, leftovers
from edgeir.bundle import Bundle, BundleWriter
from edgeir.errors import BundleError, OutOfSpace, OutputError
from edgeir.manifest import Manifest
from edgeir.provenance import collect
from edgeir.spec import ModelSpec, SizeRule, TensorSpec

MANIFEST = Manifest(
    name="exda-tiny",
    precision="fp16",
    input=TensorSpec("input", (1, 3, 64, 64)),
    batch=1,
    model=ModelSpec("exda-tiny", "exda", {}, SizeRule()),
    provenance=collect(seconds=0, argv=["edgeir", "export"]),
)


def write(destination: Path, content: bytes = b"one", *, force: bool = False) -> Path:
    with BundleWriter(destination, force=force) as writer:
        writer.path("model.onnx").write_bytes(content)
        writer.add("model.onnx", "model")
        return writer.commit(MANIFEST)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(destination: Path) -> bytes:
    return Bundle.open(destination).file("model").read_bytes()


def test_without_commit_nothing_stays(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "a.edgeir") as writer:
        writer.path("engines/x.plan").write_bytes(b"x")
        hidden = names(tmp_path)
    assert len(hidden) == 1
    assert hidden[0].startswith(f".a.edgeir.{os.getpid()}.")
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_with_an_exception_nothing_stays(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), BundleWriter(tmp_path / "a.edgeir") as writer:
        writer.path("model.onnx").write_bytes(b"x")
        raise error
    assert names(tmp_path) == []


def test_existing_needs_force_and_says_so_at_once(tmp_path: Path) -> None:
    destination = write(tmp_path / "a.edgeir")
    with pytest.raises(OutputError, match=r"a\.edgeir: it already exists\. Pass --force"), BundleWriter(destination):
        pytest.fail("entered")
    assert content(destination) == b"one"
    write(destination, b"two", force=True)
    assert content(destination) == b"two"
    assert names(tmp_path) == ["a.edgeir"]


def test_force_replaces_bundles_and_nothing_else(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("ten years")
    website = tmp_path / "site"
    website.mkdir()
    (website / "manifest.json").write_text('{"name": "a web page"}')
    file = tmp_path / "file"
    file.write_text("x")
    for destination in (home, website, file):
        with pytest.raises(OutputError, match="is not a bundle"), BundleWriter(destination, force=True):
            pytest.fail("entered")
    link = tmp_path / "link.edgeir"
    link.symlink_to(write(tmp_path / "a.edgeir"))
    with pytest.raises(OutputError, match="symbolic link"), BundleWriter(link, force=True):
        pytest.fail("entered")
    empty = tmp_path / "empty"
    empty.mkdir()
    write(empty, force=True)
    other_name = tmp_path / "named-differently"
    write(other_name)
    write(other_name, b"two", force=True)
    assert content(other_name) == b"two"
    broken = tmp_path / "broken.edgeir"
    broken.mkdir()
    (broken / "manifest.json").write_text("{")
    write(broken, force=True)
    assert (home / "thesis.txt").exists()


def test_a_failing_replacement_restores_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = write(tmp_path / "a.edgeir")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(leftovers.TEMPORARY):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write(destination, b"two", force=True)
    assert content(destination) == b"one"
    assert names(tmp_path) == ["a.edgeir"]


def test_a_destination_that_appears_meanwhile(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "a.edgeir") as slow:
        slow.path("model.onnx").write_bytes(b"slow")
        slow.add("model.onnx", "model")
        write(tmp_path / "a.edgeir", b"quick")
        with pytest.raises(OutputError, match="already exists"):
            slow.commit(MANIFEST)
    assert content(tmp_path / "a.edgeir") == b"quick"
    assert names(tmp_path) == ["a.edgeir"]


def test_bad_places_fail_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for destination, says in (
        (tmp_path / "none" / "a.edgeir", "the folder does not exist"),
        (tmp_path / "file" / "a.edgeir", "is a file, not a folder"),
        (tmp_path / ("x" * 300), "the name is too long"),
    ):
        with pytest.raises(OutputError, match=says), BundleWriter(destination):
            pytest.fail("entered")


def test_unwritable_place(tmp_path: Path) -> None:
    place = Path("/proc")
    if os.geteuid() != 0:
        place = tmp_path / "read-only"
        place.mkdir(mode=0o555)
    with pytest.raises(OutputError, match=r"a\.edgeir"), BundleWriter(place / "a.edgeir"):
        pytest.fail("entered")


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        result = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no small disk can be mounted here: there is no mount command")
    if result.returncode:
        pytest.skip(f"no small disk can be mounted here: {result.stderr.strip()}")
    try:
        write(disk / "a.edgeir")
        with pytest.raises(OutOfSpace, match=r"a\.edgeir: the disk has no room left"):
            write(disk / "a.edgeir", bytes(2 << 20), force=True)
        assert content(disk / "a.edgeir") == b"one"
        assert names(disk) == ["a.edgeir"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundle_writer, "flush_file", full)
    with pytest.raises(OutOfSpace):
        write(tmp_path / "a.edgeir")
    assert names(tmp_path) == []


def test_errors_of_the_block(tmp_path: Path) -> None:
    """Ours to explain when they are about the bundle, and left alone when they are not."""
    with pytest.raises(FileNotFoundError), BundleWriter(tmp_path / "a.edgeir"):
        (tmp_path / "no-picture.png").read_bytes()
    with pytest.raises(OutputError, match=r"a\.edgeir: it is a folder"), BundleWriter(tmp_path / "a.edgeir") as writer:
        writer.path("x/y").parent.write_bytes(b"")
    assert names(tmp_path) == []


def test_what_may_be_added(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "a.edgeir") as writer:
        for bad in ("/etc/passwd", "../x", "manifest.json", ""):
            with pytest.raises(BundleError, match="may not stand in a bundle"):
                writer.path(bad)
        with pytest.raises(BundleError, match=r"model\.onnx: there is no such file to add"):
            writer.add("model.onnx", "model")
        writer.path("model.onnx").write_bytes(b"x")
        with pytest.raises(BundleError, match="a parent must be added before"):
            writer.add("model.onnx", "model", parents=("reference.onnx",))
        artifact = writer.add("model.onnx", "model")
        assert writer.artifacts == (artifact,)
        with pytest.raises(BundleError, match="was added to the bundle before"):
            writer.add("model.onnx", "model")
        writer.path("forgotten.txt").write_bytes(b"x")
        with pytest.raises(BundleError, match=r"forgotten\.txt: the file was written into the bundle but never added"):
            writer.commit(MANIFEST)
        writer.path("forgotten.txt").unlink()
        writer.path("model.onnx").write_bytes(b"longer")
        with pytest.raises(BundleError, match=r"model\.onnx: the file changed after it was added"):
            writer.commit(MANIFEST)
    with pytest.raises(BundleError, match="is not open for writing"):
        writer.path("late.txt")


def test_nothing_is_adopted_onto_a_file_that_is_there(tmp_path: Path) -> None:
    """A file of the new bundle may be shared with the old one: what is copied onto it would change both."""
    first, second = write(tmp_path / "a.edgeir"), write(tmp_path / "b.edgeir", b"two")
    (theirs,) = Bundle.open(first).manifest.artifacts
    (other,) = Bundle.open(second).manifest.artifacts
    with BundleWriter(tmp_path / "c.edgeir") as writer:
        writer.adopt(first / theirs.path, theirs)
        with pytest.raises(BundleError, match=r"model\.onnx: the file was added to the bundle before"):
            writer.adopt(second / other.path, other)
        written = dataclasses.replace(other, path="x.onnx")
        writer.path("x.onnx").hardlink_to(first / theirs.path)  # there, and not listed
        with pytest.raises(BundleError, match=r"x\.onnx: the file was added to the bundle before"):
            writer.adopt(second / other.path, written)
    assert content(first) == b"one"


def test_a_file_that_cannot_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a.edgeir")
    (artifact,) = Bundle.open(source).manifest.artifacts

    def refuse(number: int) -> None:
        def link(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(Path, "hardlink_to", link)

    with BundleWriter(tmp_path / "b.edgeir") as writer:
        refuse(errno.EIO)
        with pytest.raises(OutputError, match="Input/output error"):
            writer.adopt(source / artifact.path, artifact)
        refuse(errno.ENOSPC)
        with pytest.raises(OutOfSpace):
            writer.adopt(source / artifact.path, artifact)
        refuse(errno.EMLINK)
        writer.adopt(source / artifact.path, artifact)
        writer.commit(MANIFEST)
    assert content(tmp_path / "b.edgeir") == b"one"


def test_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = write(tmp_path / "a.edgeir")
    monkeypatch.chdir(destination)
    write(Path(), b"two", force=True)
    monkeypatch.chdir(tmp_path)
    assert content(destination) == b"two"
    monkeypatch.chdir(destination)
    (tmp_path / "a.edgeir" / "engines").mkdir()
    monkeypatch.chdir("engines")
    write(Path(".."), b"three", force=True)
    monkeypatch.chdir(tmp_path)
    assert content(destination) == b"three"
    assert names(tmp_path) == ["a.edgeir"]
    with pytest.raises(OutputError, match="no folder that could be made"), BundleWriter(Path("/")):
        pytest.fail("entered")


def test_files_that_may_only_be_read(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "a.edgeir") as writer:
        writer.path("model.onnx").write_bytes(b"one")
        writer.path("model.onnx").chmod(0o444)
        writer.add("model.onnx", "model")
        writer.commit(MANIFEST)
    assert content(tmp_path / "a.edgeir") == b"one"


SLOW_WRITER = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from edgeir.bundle import BundleWriter
    with BundleWriter(Path(sys.argv[1]), force=True) as writer:
        writer.path("model.onnx").write_bytes(b"half")
        print("writing", flush=True)
        time.sleep(60)
""")


def start_writer(destination: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, str(destination)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "writing\n"
    return process


def test_interrupt_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    destination = write(tmp_path / "a.edgeir")
    process = start_writer(destination)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert content(destination) == b"one"
    assert names(tmp_path) == ["a.edgeir"]


def test_kill_leaves_the_old_one_and_the_next_run_clears(tmp_path: Path) -> None:
    destination = write(tmp_path / "a.edgeir")
    living = start_writer(destination)
    killed = start_writer(destination)
    try:
        killed.kill()
        killed.communicate(timeout=20)
        assert content(destination) == b"one"
        assert len(names(tmp_path)) == 3
        write(destination, b"two", force=True)
        assert content(destination) == b"two"
        left = [name for name in names(tmp_path) if name != "a.edgeir"]
        assert len(left) == 1
        assert left[0].startswith(f".a.edgeir.{living.pid}.")
    finally:
        living.kill()
        living.communicate(timeout=20)


def test_a_bundle_caught_between_the_renames_comes_back(tmp_path: Path) -> None:
    destination = write(tmp_path / "a.edgeir")
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    destination.rename(tmp_path / f".a.edgeir.{int(dead.stdout)}.0123.old")
    with pytest.raises(OutputError, match="already exists"):
        write(destination, b"two")
    assert content(destination) == b"one"
    assert names(tmp_path) == ["a.edgeir"]


def test_a_folder_that_another_thread_just_made_is_not_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its being made and its being held it looks as if a killed run had left it."""
    hold, place = leftovers.hold, tmp_path / "a.edgeir"
    other = threading.Thread(target=leftovers.clear, args=(place,))

    def later(folder: Path) -> int | None:
        other.start()
        other.join(0.2)
        return hold(folder)

    monkeypatch.setattr(leftovers, "hold", later)
    write(place)
    other.join()
    assert names(tmp_path) == ["a.edgeir"]


def test_strangers_are_left_alone(tmp_path: Path) -> None:
    for name in (".a.edgeir.notes.tmp", ".a.edgeir.12.tmp", ".b.edgeir.99999999.ab.tmp", ".a.edgeir.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / ".a.edgeir.99999999.ab.tmp").write_text("a file")
    before = names(tmp_path)
    write(tmp_path / "a.edgeir")
    assert names(tmp_path) == sorted([*before, "a.edgeir"])
