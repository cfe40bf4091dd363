"""One report with everything in it, shared by the tests of the formats."""

from __future__ import annotations

import base64
import math

from edgeir.report.value import Check, Fact, Report, Table

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
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
    ),
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
