"""What ``edgeir validate`` measures, in order, and the report of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeir.bundle import Bundle
from edgeir.cli.against import Opponent, compare_with, open_opponent
from edgeir.cli.console import Console
from edgeir.cli.contracts import measure_costs
from edgeir.cli.measuring import NOT_ROUNDED, check_drifts, check_parity, rounding_session, worst_picture
from edgeir.cli.tile_checks import OVERLAPS_PX, TilingMeasurement, measure_tiling, tile_checks
from edgeir.cli.verdicts import (
    broken_checks,
    drift_checks,
    drift_table,
    engine_table,
    look_table,
    parity_checks,
    parity_table,
)
from edgeir.compare.contract import Contract, cost_checks, quality_checks, require_conditions, require_truth
from edgeir.compare.drift import PictureDrift
from edgeir.compare.parity import Parity
from edgeir.errors import BundleError, MissingDependency
from edgeir.imaging.conditions import VALIDATION_CONDITIONS
from edgeir.precision import Precision
from edgeir.report.chart import Chart
from edgeir.report.value import Check, Fact, Report, Table
from edgeir.runtime.availability import why_not
from edgeir.runtime.engine_runtimes import ENGINE_RUNTIMES
from edgeir.runtime.opening import graph_input, open_session, require_backend
from edgeir.runtime.ort_session import OrtSession
from edgeir.runtime.restore import GraphInput, overlap_to_run
from edgeir.runtime.session import Session

if TYPE_CHECKING:
    from edgeir.models.loading import LoadedModel

Pixels = NDArray[np.float32]

MODEL = "model.onnx"
REFERENCE = "reference.onnx"


@dataclass(frozen=True, slots=True)
class ValidationRequest:
    """What the command line asked for.

    Attributes:
        pictures: how many measuring pictures.
        own: the user's clean pictures instead.
        torch: hold it against PyTorch, and not against ``reference.onnx`` alone.
        contract, contract_name: limits, and the file they are from.
        against: another bundle.
    """

    bundle: Bundle
    pictures: int
    own: list[tuple[str, Pixels]] | None
    torch: bool
    checkpoint: Path | None
    contract: Contract | None
    contract_name: str
    against: Bundle | None


@dataclass(frozen=True, slots=True)
class _WithTorch:
    """What only PyTorch can say: parity, and tiles against a whole picture of any size."""

    name: str
    parity: list[Parity]
    tiling: TilingMeasurement


def validate_bundle(
    request: ValidationRequest, console: Console, provenance: Callable[[], Mapping[str, Any]]
) -> Report:
    """Measure a bundle.

    Args:
        provenance: called when all is done.

    Raises:
        EdgeIRError: see `edgeir.errors`.
    """
    opened, contract, spec = request.bundle, request.contract, request.bundle.manifest.model
    graph = graph_input(opened.manifest)
    count = request.pictures if request.own is None else len(request.own)
    opponent = None if request.against is None else open_opponent(request.against, opened, pictures=count)
    if contract is not None:
        require_truth(contract, trained=spec.trained, scale=spec.scale, where=request.contract_name)
        if spec.scale == 1:
            require_conditions(contract, [one.name for one in VALIDATION_CONDITIONS], where=request.contract_name)
    loaded = rebuild_for(request)
    if not spec.trained:
        console.say(f"      {spec.name} is UNTRAINED: PSNR against the truth says nothing.")
    with_torch = None
    if loaded is not None:
        console.stage("comparing with PyTorch on a real picture")
        with_torch = _compare_with_torch(opened, loaded, graph, console)

    console.stage("measuring drift per degradation")
    reference, engines = _sessions(opened)
    engines |= engines_here(opened, console)
    drift = check_drifts(engines, reference, graph, pictures=request.pictures, console=console, own=request.own)
    main = next(iter(drift))
    theirs = None
    if opponent is not None:
        console.stage(f"measuring {opponent.name} on the same pictures")
        theirs = opponent.measure(pictures=request.pictures, console=console, own=request.own)
    costs: list[Check] = []
    if contract is not None and contract.costs:
        console.stage("measuring what the contract says of time and memory")
        costs = cost_checks(contract, measure_costs(contract, opened, checkpoint=request.checkpoint))

    verdict, against = _against(opponent, drift[main], theirs, trained=spec.trained)
    pictures = len({row.picture for row in drift[main]})
    state = "trained" if spec.trained else "UNTRAINED"
    return Report(
        title=f"edgeir validate: {spec.name} {opened.manifest.precision}",
        summary=f"{spec.name} ({state}) in {opened.manifest.precision} on {pictures} pictures{verdict}.",
        facts=(
            Fact("reference", with_torch.name if with_torch else f"{REFERENCE} in {reference.name}"),
            Fact("engines", ", ".join(f"{name}: {session.name}" for name, session in engines.items())),
            Fact("pictures", "the measuring pictures" if request.own is None else f"{len(request.own)} of the user's"),
            *(() if contract is None else (Fact("contract", contract.about or request.contract_name),)),
        ),
        checks=(*_checks(request, with_torch, drift), *costs),
        tables=(
            *((parity_table(with_torch.parity),) if with_torch else ()),
            engine_table(drift),
            drift_table(drift[main], _described(main, engines[main])),
            look_table(drift[main]),
            *((with_torch.tiling.table,) if with_torch else ()),
            *against,
        ),
        charts=(Chart("Drift by degradation", "bars", "Drift per degradation", "degradation", ("drift dB",)),),
        comparisons=(worst_picture(engines[main], reference, graph, drift[main], own=request.own),),
        provenance=provenance(),
        notes=_notes(trained=spec.trained, contract=contract, parity=with_torch is not None, rounded=main == MODEL),
    )


def rebuild_for(request: ValidationRequest) -> LoadedModel | None:
    """The network in PyTorch, or ``None`` where ``reference.onnx`` was asked for in its place.

    Raises:
        MissingDependency: PyTorch is not installed.
        CheckpointError: the weights cannot be found, or are others.
    """
    if not request.torch:
        return None
    try:
        require_backend("torch")
    except MissingDependency as error:
        fix = f"{error.fix} Or hold it against reference.onnx: --reference onnx."
        raise MissingDependency(error.what, where=error.where, fix=fix) from error
    from edgeir.models.rebuild import rebuild

    return rebuild(request.bundle.manifest.model, checkpoint=request.checkpoint)


def _compare_with_torch(opened: Bundle, loaded: LoadedModel, graph: GraphInput, console: Console) -> _WithTorch:
    from edgeir.runtime.torch_session import TorchSession

    torch = TorchSession(loaded)
    graphs = {REFERENCE: opened.file("reference"), MODEL: opened.file("model")}
    prepared = opened.graph_for("onnxruntime")
    if prepared not in graphs.values():
        graphs[prepared.name] = prepared
    graphs |= {path.name: path for path in opened.files("tiles")}
    parity = check_parity(graphs, torch, graph)
    fast = TorchSession(loaded, form="fast")  # in FP32, so that rounding is not taken for tiling
    overlap_px = run_overlap_px(opened)
    tried = sorted({*OVERLAPS_PX, overlap_px})
    spec = opened.manifest.model
    sharing = None
    if opened.files("tiles"):  # the bundle's tiles can share statistics: both ways are measured again
        from edgeir.cli.tile_graphs import sharing_session
        from edgeir.export.graph import TraceShape

        sharing = sharing_session(opened.file("reference"), TraceShape(graph.batch, *graph.optimum), spec, console)
    tiling = measure_tiling(fast, fast, graph, spec, console=console, sharing=sharing, overlaps_px=tried)
    return _WithTorch(torch.name, parity, tiling)


def _sessions(opened: Bundle) -> tuple[Session, dict[str, Session]]:
    """The reference, and every engine that runs here; the first is the one whose drift is shown in full.

    Where the ONNX tools are missing, as on a device, nothing can be made to round as a GPU does: then only what runs
    here is judged.
    """
    prepared = f"{opened.graph_for('onnxruntime').name} as it runs here"
    here = open_session(opened, "ort")
    try:
        rounding = rounding_session(opened.file("model"))
    except MissingDependency:
        return OrtSession(opened.file("reference"), arena=False), {prepared: here}
    return rounding_session(opened.file("reference")), {MODEL: rounding, prepared: here}


def engines_here(opened: Bundle, console: Console) -> dict[str, Session]:
    """Engines of TensorRT and TensorRT-RTX in the bundle that run on this machine; what keeps one from it is said."""
    found = {}
    for backend, runtime in ENGINE_RUNTIMES.items():
        held = any(note.runtime == backend and note.path for note in opened.manifest.engines)
        if held and why_not(backend) is None:
            try:
                found[f"engine of {runtime.title}"] = open_session(opened, backend, say=console.say)
            except (BundleError, MissingDependency) as error:
                console.say(f"      not measured: {error}")
    return found


def _checks(
    request: ValidationRequest, with_torch: _WithTorch | None, drift: Mapping[str, list[PictureDrift]]
) -> list[Check]:
    spec, precision = request.bundle.manifest.model, Precision(request.bundle.manifest.precision)
    checks = parity_checks(with_torch.parity, precision) if with_torch else []
    for name, rows in drift.items():
        if request.contract is None:
            judged = drift_checks(rows, precision, trained=spec.trained, chooses_neighbours=spec.chooses_neighbours)
        else:
            judged = [*broken_checks(rows), *quality_checks(request.contract, rows, where=request.contract_name)]
        checks += judged if name == MODEL else _named(judged, name)
    if with_torch is None:
        return checks
    return [*checks, *tile_checks(with_torch.tiling, spec, overlap_px=run_overlap_px(request.bundle))]


def run_overlap_px(opened: Bundle) -> int:
    """The overlap that ``edgeir run`` takes for this bundle: that is the one to judge."""
    return overlap_to_run(graph_input(opened.manifest), opened.manifest.tiling).px


def _described(engine: str, session: Session) -> str:
    return f"{engine} in {session.name}, every FP16 result rounded" if engine == MODEL else f"{engine}, {session.name}"


def _named(checks: Sequence[Check], engine: str) -> list[Check]:
    """Checks of an engine that is not the first, by its name."""
    return [
        Check(f"{check.name}, {engine}", check.value, check.limit, check.unit, check.kind, check.advice, check.warn)
        for check in checks
    ]


def _against(
    opponent: Opponent | None, ours: Sequence[PictureDrift], theirs: Sequence[PictureDrift] | None, *, trained: bool
) -> tuple[str, tuple[Table, ...]]:
    if opponent is None or theirs is None:
        return "", ()
    sentence, table = compare_with(opponent, ours, theirs, trained=trained)
    return f"; {sentence}", (table,)


def _notes(*, trained: bool, contract: Contract | None, parity: bool, rounded: bool) -> tuple[str, ...]:
    notes = []
    if not trained:
        notes.append("UNTRAINED: no drift against the truth is judged, only fidelity.")
    if not parity:
        notes.append("PyTorch took no part: the reference is reference.onnx, which the export held against it.")
    if not rounded:
        notes.append(NOT_ROUNDED)
    if contract is not None:
        notes.append("The contract's limits stand in place of edgeir's own on drift; parity is judged by edgeir's.")
    return tuple(notes)
