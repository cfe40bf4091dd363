"""The shape of the code: small files, names that say something, and no heavy freight in the repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("edgeir", "export", "calibrate", "train", "tests", "benchmarks", "tools")
LONGEST_FILE_LINES = 400
LARGEST_FILE_BYTES = 2_000_000
WEIGHTS = "edgeir/models/weights/"
VAGUE = {"util", "utils", "helper", "helpers", "common", "misc", "stuff", "tools"}
# Named like something that is imported, such a file can take its place: style, principle 9.
IMPORTABLE = {"onnx", "torch", "tensorrt", "json", "types", "numpy", "onnxruntime", "logging", "typing"}


def sources() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    long = [f"{path.relative_to(ROOT)}: {lines} lines" for path, lines in lengths.items() if lines > LONGEST_FILE_LINES]
    assert not long, f"more than {LONGEST_FILE_LINES} lines: {long}"


def test_names_say_something() -> None:
    inside = [path for path in sources() if path.relative_to(ROOT).parts[0] != "tools"]
    vague = [str(path.relative_to(ROOT)) for path in inside if VAGUE & {path.stem, path.parent.name}]
    assert not vague, f"name these after what they do: {vague}"


def test_no_module_takes_the_place_of_another() -> None:
    clashes = [str(path.relative_to(ROOT)) for path in sources() if path.stem in IMPORTABLE]
    assert not clashes, f"named like something that is imported: {clashes}"


def test_nothing_heavy_is_tracked() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:  # an unpacked archive has no list; it holds what was tracked
        names = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if ".venv" not in path.parts]
    else:
        names = [name for name in listed.stdout.decode("utf-8", "surrogateescape").split("\0") if name]
    heavy = [
        name
        for name in names
        if (ROOT / name).is_file()
        and (ROOT / name).stat().st_size > LARGEST_FILE_BYTES
        and not name.startswith(WEIGHTS)
    ]
    assert not heavy, f"more than {LARGEST_FILE_BYTES} bytes outside {WEIGHTS}: {heavy}"
