"""What ``edgeir validate`` measures, in order, and the report of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeir.bundle import Bundle
from edgeir.cli.against import Opponent, compare_with, open_opponent
from edgeir.cli.console import Console
from edgeir.cli.contracts import measure_costs
from edgeir.cli.measuring import check_drift, check_parity, rounding_session, worst_picture
from edgeir.cli.tile_checks import measure_tiling, tile_checks
from edgeir.cli.verdicts import (
    broken_checks,
    drift_checks,
    drift_table,
    engine_table,
    look_table,
    parity_checks,
    parity_table,
)
from edgeir.compare.contract import Contract, cost_checks, quality_checks, require_truth
from edgeir.compare.drift import PictureDrift
from edgeir.models.rebuild import rebuild
from edgeir.precision import Precision
from edgeir.report.chart import Chart
from edgeir.report.value import Check, Fact, Report, Table
from edgeir.runtime.opening import graph_input, open_session
from edgeir.runtime.session import Session
from edgeir.runtime.torch_session import TorchSession

Pixels = NDArray[np.float32]

MODEL = "model.onnx"
REFERENCE = "reference.onnx"


@dataclass(frozen=True, slots=True)
class ValidationRequest:
    """What the command line asked for.

    Attributes:
        pictures: how many measuring pictures.
        own: the user's clean pictures instead.
        contract, contract_name: limits, and the file they are from.
        against: another bundle.
    """

    bundle: Bundle
    pictures: int
    own: list[tuple[str, Pixels]] | None
    checkpoint: Path | None
    contract: Contract | None
    contract_name: str
    against: Bundle | None


def validate_bundle(
    request: ValidationRequest, console: Console, provenance: Callable[[], Mapping[str, Any]]
) -> Report:
    """Measure a bundle.

    Args:
        provenance: called when all is done.

    Raises:
        EdgeIRError: see `edgeir.errors`.
    """
    opened, contract = request.bundle, request.contract
    manifest = opened.manifest
    graph = graph_input(manifest)
    trained = manifest.model.trained
    count = request.pictures if request.own is None else len(request.own)
    opponent = None if request.against is None else open_opponent(request.against, opened, pictures=count)
    if contract is not None:
        require_truth(contract, trained=trained, where=request.contract_name)
    loaded = rebuild(manifest.model, checkpoint=request.checkpoint)
    torch = TorchSession(loaded)
    if not trained:
        console.say(f"      {manifest.name} is UNTRAINED: PSNR against the truth says nothing.")

    console.stage("comparing with PyTorch on a real picture")
    graphs = {REFERENCE: opened.file("reference"), MODEL: opened.file("model")}
    prepared = opened.graph_for("onnxruntime")
    if prepared not in graphs.values():
        graphs[prepared.name] = prepared
    parity = check_parity(graphs, torch, graph)

    console.stage("measuring drift per degradation")
    reference = rounding_session(graphs[REFERENCE])
    engines: dict[str, Session] = {MODEL: rounding_session(graphs[MODEL])}
    engines[f"{prepared.name} as it runs here"] = open_session(opened, "ort")

    def measured(session: Session) -> list[PictureDrift]:
        return check_drift(session, reference, graph, pictures=request.pictures, console=console, own=request.own)

    drift = {name: measured(session) for name, session in engines.items()}
    first = drift[MODEL]
    fast = TorchSession(loaded, form="fast")  # in FP32, so that rounding is not taken for tiling
    tiling = measure_tiling(fast, fast, graph, manifest.model, console=console)
    theirs = None
    if opponent is not None:
        console.stage(f"measuring {opponent.name} on the same pictures")
        theirs = opponent.measure(pictures=request.pictures, console=console, own=request.own)

    precision = Precision(manifest.precision)
    chooses = any(row.key_graph_overlap is not None for row in parity)
    checks = parity_checks(parity, precision)
    for name, rows in drift.items():
        if contract is None:
            judged = drift_checks(rows, precision, trained=trained, chooses_neighbours=chooses)
        else:
            judged = [*broken_checks(rows), *quality_checks(contract, rows, where=request.contract_name)]
        checks += judged if name == MODEL else _named(judged, name)
    checks += tile_checks(tiling, manifest.model)
    if contract is not None:
        if contract.costs:
            console.stage("measuring what the contract says of time and memory")
        checks += cost_checks(contract, measure_costs(contract, opened, checkpoint=request.checkpoint))

    verdict, tables = _against(opponent, first, theirs)
    state = "trained" if trained else "UNTRAINED"
    pictures = len({row.picture for row in first})
    return Report(
        title=f"edgeir validate: {manifest.name} {manifest.precision}",
        summary=f"{manifest.name} ({state}) in {manifest.precision} on {pictures} pictures{verdict}.",
        facts=(
            Fact("reference", torch.name),
            Fact("engines", ", ".join(f"{name}: {session.name}" for name, session in engines.items())),
            Fact("pictures", "the measuring pictures" if request.own is None else f"{len(request.own)} of the user's"),
            *(() if contract is None else (Fact("contract", contract.about or request.contract_name),)),
        ),
        checks=tuple(checks),
        tables=(
            parity_table(parity),
            engine_table(drift),
            drift_table(first, engines[MODEL].name),
            look_table(first),
            tiling.table,
            *tables,
        ),
        charts=(Chart("Drift by degradation", "bars", "Drift per degradation", "degradation", ("drift dB",)),),
        comparisons=(worst_picture(engines[MODEL], reference, graph, first, own=request.own),),
        provenance=provenance(),
        notes=_notes(trained=trained, contract=contract),
    )


def _named(checks: Sequence[Check], engine: str) -> list[Check]:
    """Checks of an engine that is not the first, by its name."""
    return [
        Check(f"{check.name}, {engine}", check.value, check.limit, check.unit, check.kind, check.advice, check.warn)
        for check in checks
    ]


def _against(
    opponent: Opponent | None, ours: Sequence[PictureDrift], theirs: Sequence[PictureDrift] | None
) -> tuple[str, tuple[Table, ...]]:
    if opponent is None or theirs is None:
        return "", ()
    sentence, table = compare_with(opponent, ours, theirs)
    return f"; {sentence}", (table,)


def _notes(*, trained: bool, contract: Contract | None) -> tuple[str, ...]:
    notes = []
    if not trained:
        notes.append("UNTRAINED: no drift against the truth is judged, only fidelity.")
    if contract is not None:
        notes.append("The contract's limits stand in place of edgeir's own on drift; parity is judged by edgeir's.")
    return tuple(notes)
