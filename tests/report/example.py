"""One report with everything in it, shared by the tests of the formats."""

from __future__ import annotations

import base64
import math

from edgeir.report.chart import Chart
from edgeir.report.comparison import Comparison
from edgeir.report.value import Check, Fact, Report, Table

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

# Small PNGs that no encoder has to make: the snapshots hold their bytes.
OTHER_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)

SWEEP = Table(
    "Sweep",
    ("variant", "model", "p50 ms", "drift dB", "k"),
    (
        ("kgt fp16, k 256", "kgt", 31.5, 0.002, 256),
        ("kgt fp16, k 64", "kgt", 22.0, 0.031, 64),
        ("kgt int8 <b>k</b> 64", "kgt", 24.25, 0.19, 64),
        ("exda fp32", "exda", 60.0, 0.0, None),
        ("exda fp16", "exda", 28.0, 0.002, None),
        ("exda int8", "exda", 16.5, 0.12, None),
        ("cea int8, not timed", "cea", None, 0.3, None),
        ("cea diverged", "cea", 12.0, math.nan, None),
    ),
)
STEPS = Table(
    "What each rewrite bought",
    ("step", "p50 ms", "nodes"),
    (
        ("as traced", 60.0, 1787),
        ("fuse attention", 41.0, 1611),
        ("fp16", 28.0, 1790),
        ("head in fp32", 28.75, 1794),
    ),
    note="Each row is the whole network after that step.",
)

REPORT = Report(
    title="exda-tiny int8 <b>vs</b> fp32",
    summary="INT8 loses 0.41 dB on average, more than the 0.3 dB allowed.",
    facts=(Fact("model", "exda-tiny"), Fact("pictures", 5), Fact("trained", False), Fact("engine", None)),
    checks=(
        Check("drift, mean", 0.41, 0.3, "dB", advice="Keep decoder2 in FP16.", warn=0.15),
        Check("drift, worst", 0.2, 0.5, "dB", advice="Look at rain.", warn=0.1),
        Check("fidelity", math.inf, 55, "dB", kind="min", advice="Never shown."),
        Check("key graph | Jaccard", math.nan, 0.98, kind="min", advice='Raise "k" & try again.'),
    ),
    tables=(
        Table(
            "Per picture",
            ("picture", "drift dB", "p50 ms", "tiled"),
            (
                ("a_b*c*.png", 0.123456, 12.5, True),
                ("</td><script>", math.inf, 1234567.0, False),
                ("empty", None, 0, None),
            ),
            note="Drift = PSNR(reference, truth) - PSNR(engine, truth).",
        ),
        SWEEP,
        STEPS,
    ),
    charts=(
        Chart(
            "Which are worth having",
            "pareto",
            "Sweep",
            "p50 ms",
            ("drift dB",),
            group="model",
            label="variant",
            log_x=True,
            note="Smaller is better in both.",
        ),
        Chart("Nodes and time", "bars", "What each rewrite bought", "step", ("p50 ms", "nodes")),
        Chart("Where the time went", "waterfall", "What each rewrite bought", "step", ("p50 ms",)),
        Chart("Drift by k", "lines", "Sweep", "k", ("drift dB",), group="model"),
    ),
    comparisons=(Comparison("A corner of <rain>", {"input": PNG, "engine": OTHER_PNG, "difference x8": PNG}),),
    pictures={"worst & best": PNG},
    provenance={
        "command": ["edgeir", "validate", "a.edgeir"],
        "versions": {"python": "3.11.7"},
        "device": {"machine": "x86_64", "processors": 2, "gpu": None},
        "seconds": 1.5,
        "created": "2026-01-02T03:04:05+00:00",
    },
    notes=("Weights are untrained.",),
)

QUIET = Report(title="nothing to check", summary="It has no checks.")
