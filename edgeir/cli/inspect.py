"""``edgeir inspect``: what is in a bundle or a graph."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgeir.cli.console import print_result
from edgeir.cli.graph_file import load_graph
from edgeir.errors import BundleError, UsageError

if TYPE_CHECKING:
    from edgeir.report.value import Report


def command(
    path: Path = typer.Argument(..., help="A bundle, or an ONNX file."),
    explain: str | None = typer.Option(
        None, "--explain", metavar="RULE", help="Where this rewrite would fire, or why it does not."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Show what is in a bundle or an ONNX file."""
    from edgeir.report.formats import emit

    if not path.exists():
        raise UsageError("there is no such file or folder", where=str(path))
    if explain is not None:
        report, data = _explained(path, explain)
    elif path.is_dir():
        report, data = _bundle(path)
    elif path.suffix == ".onnx":
        report, data = _graph(path)
    elif path.suffix == ".plan":
        raise BundleError(
            "an engine says nothing about itself without the GPU it was built for",
            where=str(path),
            fix="Inspect the bundle it lies in: its manifest vouches for the engine and names its parents.",
        )
    else:
        raise UsageError("this can't be inspected", where=str(path), expected="a bundle or an .onnx file")
    print_result(json.dumps(data, indent=2) if as_json else emit(report, "text"))


def _bundle(path: Path) -> tuple[Report, object]:
    from edgeir.bundle import Bundle
    from edgeir.report.value import Fact, Report, Table
    from edgeir.runtime.byte_session import BYTES_ROLE, byte_twin

    opened = Bundle.open(path)
    manifest = opened.manifest
    twin = byte_twin(opened, opened.file("model")) if opened.files(BYTES_ROLE) else None
    state = "trained" if manifest.model.trained else "UNTRAINED"
    report = Report(
        title=f"{manifest.name} {manifest.precision}",
        summary=f"A bundle of {len(manifest.artifacts)} files, every size and hash as the manifest says.",
        facts=(
            Fact("model", f"{manifest.name} ({manifest.model.architecture}), {state}"),
            Fact("input", f"{manifest.input.name} {'x'.join(map(str, manifest.input.shape))} {manifest.input.dtype}"),
            *(() if twin is None else (Fact("bytes", f"{twin[0].name}, {twin[1].text}"),)),
            Fact("sides", f"multiples of {manifest.model.size.multiple}"),
            Fact("made", manifest.provenance.created),
            Fact("command", " ".join(manifest.provenance.command)),
        ),
        tables=(
            Table(
                "Files",
                ("file", "role", "MB", "made from", "sha256"),
                tuple(
                    (item.path, item.role, round(item.bytes / 1e6, 2), ", ".join(item.parents), item.sha256[:12])
                    for item in manifest.artifacts
                ),
            ),
            Table(
                "Engines",
                ("runtime", "version", "architecture", "what happened"),
                tuple((item.runtime, item.version, item.architecture, item.note) for item in manifest.engines),
            ),
        ),
    )
    return report, json.loads(manifest.to_json())


def _explained(path: Path, rule: str) -> tuple[Report, object]:
    """Where a rule would fire on a graph, or its nearest misses; of a bundle, on the graph as traced."""
    from dataclasses import asdict

    from edgeir.bundle import Bundle
    from edgeir.report.value import Report, Table

    file = Bundle.open(path).file("reference") if path.is_dir() else path
    model = load_graph(file)
    from edgeir.export.rewrites.apply import explain

    misses = explain(model, rule)
    fires = [miss for miss in misses if miss.fires]
    if fires:
        summary = f"{rule} fires at {len(fires)} places."
    elif misses:
        summary = f"{rule} does not fire. This is how near it comes:"
    else:
        summary = f"{rule} does not fire: nothing here looks like what it rewrites."
    rows = tuple((miss.node, miss.reason or "fires", ", ".join(miss.matched)) for miss in misses)
    tables = (Table("Places", ("node", "why not", "what matched"), rows),) if rows else ()
    return Report(title=f"{rule} on {file.name}", summary=summary, tables=tables), [asdict(miss) for miss in misses]


def _graph(path: Path) -> tuple[Report, object]:
    model = load_graph(path)
    from edgeir.imaging.byte_formats import IO_KEY
    from edgeir.precision import module_of
    from edgeir.report.value import Fact, Report, Table
    from edgeir.spec import SPEC_KEY, ModelSpec

    text = model.metadata_props.get(SPEC_KEY)
    spec = None if text is None else ModelSpec.from_json(text, where=str(path))
    io = model.metadata_props.get(IO_KEY)
    dtypes = {value.name: str(value.dtype).lower() for value in (*model.graph.inputs, *model.graph.outputs)}
    types = Counter(
        str(node.outputs[0].dtype) for node in model.graph if node.outputs and node.outputs[0].dtype is not None
    )
    operators = Counter(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in model.graph)
    modules = {module_of(node.name or "") for node in model.graph}
    data = {
        "opsets": dict(model.opset_imports),
        "inputs": {value.name: [str(side) for side in value.shape or ()] for value in model.graph.inputs},
        "outputs": {value.name: [str(side) for side in value.shape or ()] for value in model.graph.outputs},
        "dtypes": dtypes,
        "io": io,
        "nodes": sum(operators.values()),
        "operators": dict(operators.most_common()),
        "types": dict(types.most_common()),
        "functions": [function.name for function in model.functions.values()],
        "modules": len(modules),
        "model": None if spec is None else spec.to_dict(),
    }
    report = Report(
        title=path.name,
        summary=f"{data['nodes']} nodes in {len(modules)} modules, {len(model.functions)} functions.",
        facts=(
            Fact("model", "not written by edgeir" if spec is None else f"{spec.name} ({spec.architecture})"),
            Fact(
                "opsets", ", ".join(f"{domain or 'onnx'} {version}" for domain, version in model.opset_imports.items())
            ),
            *(() if io is None else (Fact("bytes", _format_text(io)),)),
            Fact("inputs", _ends(data["inputs"], dtypes)),  # type: ignore[arg-type]
            Fact("outputs", _ends(data["outputs"], dtypes)),  # type: ignore[arg-type]
        ),
        tables=(
            Table("Operators", ("operator", "nodes"), tuple(operators.most_common())),
            Table("Result types", ("type", "nodes"), tuple(types.most_common())),
        ),
    )
    return report, data


def _format_text(name: str) -> str:
    from edgeir.imaging.byte_formats import BYTE_FORMATS

    return next((form.text for form in BYTE_FORMATS if form.name == name), name)


def _ends(shapes: Mapping[str, list[str]], types: Mapping[str | None, str]) -> str:
    return ", ".join(f"{name} {'x'.join(shape)} {types[name]}" for name, shape in shapes.items())
