"""Who may import whom: the table of the design, held against every import statement, lazy ones included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"edgeir": "edgeir", "export": "edgeir.export", "calibrate": "edgeir.calibrate", "train": "edgeir.train"}

# A module belongs to its longest prefix here and may import its own layer and those below.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("edgeir.errors",),
    (
        "edgeir.spec",
        "edgeir.precision",
        "edgeir.quantization_placement",
        "edgeir.provenance",
        "edgeir.storage",
        "edgeir.subprocesses",
        "edgeir.imaging",
        "edgeir.ops.table",
    ),
    (
        "edgeir.bundle",
        "edgeir.bundle_change",
        "edgeir.bundle_writer",
        "edgeir.leftovers",
        "edgeir.manifest",
        "edgeir.manifest_schema",
        "edgeir.recipe",
        "edgeir.report",
        "edgeir.compare",
    ),
    (
        "edgeir.models",
        "edgeir.runtime",
        "edgeir.ops",
        "edgeir.remote",
        "edgeir.serving",
        "edgeir.sizing",
        "edgeir.sweep",
        "edgeir.video",
    ),
    ("edgeir.export", "edgeir.calibrate", "edgeir.train"),
    ("edgeir.cli", "edgeir.__main__"),
)
# They meet in a bundle, never in each other's code.
SIBLINGS = ("edgeir.export", "edgeir.calibrate", "edgeir.train")

# Third-party package -> the only files that may import it.
ONLY_IN = {
    ("torch", "torchvision", "torchmetrics"): (
        "edgeir/models/*",
        "edgeir/runtime/torch_*.py",
        "export/trace.py",
        "train/*",
    ),
    ("av",): ("edgeir/video/*",),
    ("cuda",): ("edgeir/runtime/gpu_*.py",),
    ("onnxruntime",): ("edgeir/runtime/ort_*.py", "calibrate/*"),
    ("tensorrt", "tensorrt_rtx", "polygraphy"): (
        "edgeir/runtime/*",
        "export/engines.py",
        "export/engines/*",
        "edgeir/ops/tensorrt/*",
    ),
}
# Third-party package -> files that may not import it: what runs on the device.
NEVER_IN = {
    ("onnx", "onnx_ir", "onnxscript"): (
        "edgeir/runtime/*",
        "edgeir/imaging/*",
        "edgeir/report/*",
        "edgeir/bundle*.py",
        "edgeir/manifest*.py",
        "edgeir/leftovers.py",
        "edgeir/storage.py",
        "edgeir/provenance.py",
        "edgeir/spec.py",
        "edgeir/errors.py",
    ),
}


def module_name(file: Path, root: Path) -> str:
    """Import name of a file of the repository."""
    parts = list(file.relative_to(root).with_suffix("").parts)
    name = ".".join([FOLDERS[parts[0]], *parts[1:]])
    return name.removesuffix(".__init__")


def layer_of(module: str) -> int | None:
    """Index in `LAYERS`, ``-1`` for the package itself, ``None`` for a module that no layer names."""
    if module == "edgeir":
        return -1
    prefixes = {name: index for index, names in enumerate(LAYERS) for name in names}
    while module:
        if module in prefixes:
            return prefixes[module]
        module = module.rpartition(".")[0]
    return None


def imports_of(file: Path, module: str, known: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and full name of everything the file imports, at any depth; ``from edgeir import bundle`` is the module."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], base]).rstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in known else base
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def violations(root: Path) -> list[str]:
    """One line per import that is not allowed: ``file:line: who may not import whom; allowed: what``."""
    files = [file for folder in FOLDERS for file in sorted((root / folder).rglob("*.py"))]
    modules = {file: module_name(file, root) for file in files}
    known = frozenset(modules.values())
    found = []
    for file, module in modules.items():
        place = file.relative_to(root).as_posix()
        layer = layer_of(module)
        if layer is None:
            found.append(f"{place}:1: {module} stands in no layer; add it to LAYERS in tests/test_layers.py")
            continue
        for line, target in imports_of(file, module, known):
            if reason := _inside(module, layer, target) or _outside(place, target):
                found.append(f"{place}:{line}: {module} may not import {target}; {reason}")
    return found


def _inside(module: str, layer: int, target: str) -> str | None:
    if target != "edgeir" and not target.startswith("edgeir."):
        return None
    target_layer = layer_of(target)
    if target_layer is None or target_layer > layer:
        return f"allowed: {', '.join(name for names in LAYERS[: layer + 1] for name in names) or 'nothing of edgeir'}"
    ours = next((name for name in SIBLINGS if module == name or module.startswith(f"{name}.")), None)
    theirs = next((name for name in SIBLINGS if target == name or target.startswith(f"{name}.")), None)
    if ours and theirs and ours != theirs:
        return f"export, calibrate and train meet in a bundle; allowed: {ours} and the layers below"
    return None


def _outside(place: str, target: str) -> str | None:
    package = target.split(".")[0]
    for names, allowed in ONLY_IN.items():
        if package in names and not any(fnmatch(place, pattern) for pattern in allowed):
            return f"allowed only in: {', '.join(allowed)}"
    for names, denied in NEVER_IN.items():
        if package in names and any(fnmatch(place, pattern) for pattern in denied):
            return f"allowed anywhere but in: {', '.join(denied)}"
    return None


def test_the_layers_hold() -> None:
    found = violations(ROOT)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("file", "source", "line", "says"),
    [
        (
            "edgeir/spec.py",
            "from edgeir.bundle import Bundle",
            1,
            "edgeir.spec may not import edgeir.bundle; allowed: ",
        ),
        ("edgeir/spec.py", "def f():\n    from edgeir import report", 2, "may not import edgeir.report"),
        ("edgeir/imaging/a.py", "from . import b\nfrom ..models import kgt", 2, "may not import edgeir.models"),
        ("edgeir/errors.py", "import edgeir.spec", 1, "may not import edgeir.spec"),
        ("edgeir/__init__.py", "from edgeir.errors import EdgeIRError", 1, "allowed: nothing of edgeir"),
        ("calibrate/plan.py", "from edgeir.export.graph import x", 1, "meet in a bundle; allowed: edgeir.calibrate"),
        ("train/loop.py", "import importlib\nimportlib.import_module('edgeir.calibrate')", 2, "meet in a bundle"),
        ("edgeir/models/a.py", "import edgeir.export", 1, "may not import edgeir.export"),
        ("edgeir/helpers.py", "", 1, "edgeir.helpers stands in no layer"),
        ("edgeir/imaging/a.py", "import torch.nn", 1, "torch.nn; allowed only in: edgeir/models/*"),
        ("export/rewrite.py", "def f():\n    import torch", 2, "allowed only in"),
        ("edgeir/runtime/rtx.py", "import onnxruntime", 1, "allowed only in: edgeir/runtime/ort_*.py"),
        ("edgeir/compare/a.py", "import tensorrt_rtx as trt", 1, "allowed only in: edgeir/runtime/*"),
        ("edgeir/runtime/ort_engine.py", "import onnx", 1, "allowed anywhere but in"),
        ("edgeir/bundle.py", "if True:\n    import onnx_ir as ir", 2, "allowed anywhere but in"),
        ("edgeir/report/a.py", "__import__('onnxscript')", 1, "allowed anywhere but in"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, file: str, source: str, line: int, says: str) -> None:
    for present in ("edgeir/report/__init__.py", "edgeir/models/__init__.py", "edgeir/bundle.py", file):
        (tmp_path / present).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / present).write_text("", encoding="utf-8")
    (tmp_path / file).write_text(source, encoding="utf-8")
    found = violations(tmp_path)
    assert len(found) == 1, found
    assert found[0].startswith(f"{file}:{line}: ")
    assert says in found[0]


def test_what_is_allowed(tmp_path: Path) -> None:
    for file, source in {
        "edgeir/bundle.py": "from edgeir import errors\nfrom edgeir.ops.table import T\nimport numpy\n",
        "edgeir/runtime/ort_engine.py": "import onnxruntime\nfrom edgeir.ops import table\n",
        "edgeir/runtime/torch_engine.py": "import torch\nfrom edgeir.models import registry\n",
        "edgeir/ops/table.py": "from edgeir.errors import EdgeIRError\n",
        "export/engines/rtx.py": "import tensorrt_rtx\nfrom edgeir.export import trace\n",
        "export/trace.py": "import torch\nimport onnx_ir\n",
        "edgeir/cli/export.py": "def run():\n    from edgeir.export.trace import trace\n",
        "edgeir/errors.py": "import difflib\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(source, encoding="utf-8")
    assert violations(tmp_path) == []
