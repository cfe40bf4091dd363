"""What of a bundle Triton can serve: its graphs by ONNX Runtime, its TensorRT engines by TensorRT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from edgeir.bundle import Bundle, bundle_name
from edgeir.errors import BundleError
from edgeir.imaging.byte_formats import BYTE_FORMATS, MEAN_NAME, ByteFormat
from edgeir.manifest import Artifact, Manifest
from edgeir.runtime.byte_session import BYTES_ROLE
from edgeir.runtime.opening import graph_input
from edgeir.serving.triton_config import Backend, Tensor, TritonModel
from edgeir.spec import INPUT_NAME, OUTPUT_NAME

_WHOLE = "model.onnx"
_NOT_SERVED = {
    "rtx": "Triton's TensorRT backend does not run engines of TensorRT-RTX.",
    "ort": "ONNX Runtime's own format is of one version and one machine; model.onnx is served in its place.",
}
_PLUGINS = " The server must load edgeir's plugin library: --backend-config=tensorrt,plugins=LIBRARY."


@dataclass(frozen=True, slots=True)
class Served:
    """One file of a bundle as a Triton model.

    Attributes:
        model: its configuration.
        artifact: the file.
        note: what the manifest says of an engine, ``""`` for a graph.
        architecture: of the only GPUs that an engine runs on (``"sm87"``), ``""`` for a graph.
    """

    model: TritonModel
    artifact: Artifact
    note: str = ""
    architecture: str = ""


@dataclass(frozen=True, slots=True)
class Servable:
    """What a bundle has for Triton, and what it has that Triton cannot serve, a sentence each."""

    models: tuple[Served, ...]
    left_out: tuple[str, ...]


def servable(bundle: Bundle) -> Servable:
    """Every graph and engine of ``bundle`` that a server can run.

    Of several engines for one GPU the one of the newest TensorRT is taken, of two of one TensorRT the one that needs no
    plugins; the others are named in ``left_out``.

    Raises:
        BundleError: the bundle has no ``model.onnx``.
    """
    manifest = bundle.manifest
    by_path = {artifact.path: artifact for artifact in manifest.artifacts}
    if _WHOLE not in by_path:
        raise BundleError("the bundle has no graph to serve", where=str(bundle.path), expected=_WHOLE)
    found = [_served(manifest, by_path[_WHOLE], None, "onnxruntime", "")]
    for artifact in manifest.artifacts:
        if artifact.role == BYTES_ROLE and artifact.parents == (_WHOLE,):
            form = _format_of((artifact.path,))
            if form is None:
                raise BundleError("a graph of bytes without a known format", where=artifact.path)
            found.append(_served(manifest, artifact, form, "onnxruntime", f"-{form.name}"))
    engines, left_out = _engines(manifest, by_path)
    return Servable((*found, *engines), left_out)


def _engines(manifest: Manifest, by_path: dict[str, Artifact]) -> tuple[list[Served], tuple[str, ...]]:
    best: dict[str, tuple[_Rank, Served]] = {}
    left_out = []
    for note in manifest.engines:
        if note.path is None:
            continue
        if note.runtime != "tensorrt":
            left_out.append(f"{note.path}: {_NOT_SERVED.get(note.runtime, 'Triton has no backend for it.')}")
            continue
        artifact = by_path[note.path]
        form = _format_of(artifact.parents)
        mark = f"-tensorrt-{note.architecture}" + ("" if form is None else f"-{form.name}")
        version = tuple(int(part) for part in note.version.split(".") if part.isdecimal())
        plugins = any("-plugins." in path for path in (note.path, *artifact.parents))
        said = note.note + (_PLUGINS if plugins else "")
        new = _Rank(version, not plugins), _served(manifest, artifact, form, "tensorrt", mark, said, note.architecture)
        known = best.setdefault(mark, new)
        if known is not new:
            worse, better = (known, new) if new[0] > known[0] else (new, known)
            best[mark] = better
            left_out.append(f"{worse[1].artifact.path}: {_why_worse(worse[0], better[0])}")
    return [served for _, served in best.values()], tuple(left_out)


class _Rank(NamedTuple):
    """Of engines for one GPU and one kind of pictures the highest is served."""

    version: tuple[int, ...]
    without_plugins: bool


def _why_worse(worse: _Rank, better: _Rank) -> str:
    if worse.version != better.version:
        return "there is one of a newer TensorRT for the same GPU."
    if worse.without_plugins != better.without_plugins:
        return "there is one of the same TensorRT for the same GPU that needs no plugins."
    return "there is another of the same TensorRT for the same GPU."


def _served(
    manifest: Manifest,
    artifact: Artifact,
    form: ByteFormat | None,
    backend: Backend,
    mark: str,
    note: str = "",
    architecture: str = "",
) -> Served:
    graph = graph_input(manifest)
    name = bundle_name(manifest.name, manifest.precision, *graph.optimum, dynamic=not graph.static)
    first, channels = manifest.input.shape[0], manifest.model.channels
    batch, height, width = (side if isinstance(side, int) else -1 for side in (first, *manifest.input.shape[2:]))
    scaled = [side if side < 0 else side * manifest.model.scale for side in (height, width)]
    inputs: tuple[Tensor, ...] = (Tensor(INPUT_NAME, "float32", (batch, channels, height, width)),)
    outputs: tuple[Tensor, ...] = (Tensor(OUTPUT_NAME, "float32", (batch, channels, *scaled)),)
    warm_up: tuple[int, ...] = (manifest.batch, channels, *graph.optimum)
    if form is not None:
        shape = tuple(max(side, -1) for side in form.input_shape(batch, height, width))
        inputs = (Tensor(INPUT_NAME, "uint8", shape),)
        outputs = (Tensor(OUTPUT_NAME, "uint8", (batch, *scaled, 3)), Tensor(MEAN_NAME, "float32", (batch,)))
        warm_up = form.input_shape(manifest.batch, *graph.optimum)
    model = TritonModel(
        name=name.removesuffix(".edgeir") + mark,
        backend=backend,
        file="model.plan" if backend == "tensorrt" else "model.onnx",
        inputs=inputs,
        outputs=outputs,
        warm_up=warm_up,
        max_batch=manifest.ranges[first].maximum if isinstance(first, str) else 0,
        best_batch=manifest.batch,
        facts=dict(_facts(manifest, form)),
    )
    return Served(model, artifact, note, architecture)


def _facts(manifest: Manifest, form: ByteFormat | None) -> Iterator[tuple[str, str]]:
    """What a client needs to prepare a picture."""
    yield "edgeir_model", manifest.name
    yield "edgeir_precision", manifest.precision
    yield "edgeir_pictures", "NCHW float32, RGB, 0 to 1" if form is None else form.text
    yield "edgeir_scale", str(manifest.model.scale)
    yield "edgeir_sides_multiple_of", str(manifest.model.size.multiple)
    for axis, symbol in enumerate(manifest.input.shape):
        if isinstance(symbol, str):
            bounds = manifest.ranges[symbol]
            yield f"edgeir_range_{'NCHW'[axis]}", f"{bounds.minimum} {bounds.optimum} {bounds.maximum}"


def _format_of(paths: tuple[str, ...]) -> ByteFormat | None:
    """What the graph among ``paths`` takes: ``"model.uint8.onnx"`` bytes, ``"model.onnx"`` floats."""
    return next((form for form in BYTE_FORMATS for path in paths if path.endswith(f".{form.name}.onnx")), None)
