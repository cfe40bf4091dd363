"""``contract.yaml``: what a product needs of a network, checked by ``edgeir validate --contract``.

::

    about: the camera pipeline, July
    quality:
      mean_drift_db: 0.05              # of PSNR against the truth, over all degradations
      worst_degradation_db: 0.2        # mean drift under the worst one
      worst_picture_db: 0.5
      degradations: {rain: 0.1}        # mean drift under one degradation, by its name in the drift table
      least_gain_db: {noise-25: 8.0}   # mean gain of PSNR over the input, of the engine
      fidelity_db: 40                  # least PSNR of engine against reference
      ssim: 0.98                       # least SSIM of engine against reference
      brightness_shift_8bit: 0.25
      hue_shift_deg: 1.0
    latency: {p95_ms: 40, pictures_per_second: 20}
    memory: {peak_mib: 1500, bundle_mb: 60}

Everything is optional; what is stated is a check, and one that fails makes the exit code 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from edgeir.compare.drift import (
    ConditionDrift,
    PictureDrift,
    by_condition,
    mean_drift_db,
    worst_condition,
    worst_sample,
)
from edgeir.errors import UsageError, nearest
from edgeir.recipe import Section, parse_section, read_yaml
from edgeir.report.value import Check

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

_DRIFT_ADVICE = "Keep the layers that cost most in a higher precision (plan.yaml names them), or export with --fp16."
_GAIN_ADVICE = "The network itself restores too little here: train it for this degradation, or take another one."
_TIME_ADVICE = "Export a smaller model, size or k, or a lower precision; 'edgeir sweep' shows what each costs."
_MEMORY_ADVICE = "Export a smaller size or model: memory grows with the area of a tile."


class Quality(Section):
    """Limits on pictures, see the module."""

    mean_drift_db: Positive | None = None
    worst_degradation_db: Positive | None = None
    worst_picture_db: Positive | None = None
    degradations: Mapping[str, Positive] = Field(default_factory=dict)
    least_gain_db: Mapping[str, Finite] = Field(default_factory=dict)
    fidelity_db: Positive | None = None
    ssim: Annotated[float, Field(gt=0, le=1)] | None = None
    brightness_shift_8bit: Positive | None = None
    hue_shift_deg: Positive | None = None


class LatencyLimits(Section):
    """Limits on the time of one batch on this machine, in the backend ``ort``."""

    p50_ms: Positive | None = None
    p95_ms: Positive | None = None
    pictures_per_second: Positive | None = None


class MemoryLimits(Section):
    """Limits on peak resident memory of a process that runs the bundle, and on the bundle's files."""

    peak_mib: Positive | None = None
    bundle_mb: Positive | None = None


class Contract(Section):
    """What a product needs; sections that are absent are not measured."""

    about: str = ""
    quality: Quality = Quality()
    latency: LatencyLimits | None = None
    memory: MemoryLimits | None = None

    @property
    def costs(self) -> bool:
        """Whether time or memory are limited, so that they must be measured."""
        return self.latency is not None or self.memory is not None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a contract is held against; ``None`` for what was not measured.

    Attributes:
        p50_ms, p95_ms: latency of a batch in milliseconds.
        pictures_per_second: at the median.
        peak_mib: peak resident memory in MiB.
        bundle_mb: size of all files in MB (10^6 bytes).
    """

    p50_ms: float | None = None
    p95_ms: float | None = None
    pictures_per_second: float | None = None
    peak_mib: float | None = None
    bundle_mb: float | None = None


def read_contract(path: Path) -> Contract:
    """Read and check a contract.

    Raises:
        UsageError: not YAML, an unknown key (offers the nearest), a limit that is none, or no limit at all.
    """
    contract = parse_section(Contract, read_yaml(path, what="contract"), where=str(path), what="contract")
    limits = [contract.quality, *(part for part in (contract.latency, contract.memory) if part is not None)]
    if not any(limit for section in limits for _, limit in section):
        raise UsageError("the contract states no limit", where=str(path), fix="Such as: quality: {mean_drift_db: 0.05}")
    return contract


def require_truth(contract: Contract, *, trained: bool, scale: int = 1, where: str) -> None:
    """Refuse limits that need PSNR against the truth where the network is untrained, or the input has none.

    Raises:
        UsageError: there is one; ``where`` names the contract.
    """
    quality = contract.quality
    if quality.least_gain_db and scale > 1:
        raise UsageError(
            "least_gain_db cannot be judged: the network enlarges, so that its input has no PSNR against the truth",
            where=f"{where}: quality",
            fix="Limit the drift instead: worst_degradation_db.",
        )
    asked = [
        name
        for name in ("mean_drift_db", "worst_degradation_db", "worst_picture_db", "degradations", "least_gain_db")
        if getattr(quality, name)
    ]
    if asked and not trained:
        raise UsageError(
            f"{asked[0]} cannot be judged: the network is untrained, and restores nothing",
            where=f"{where}: quality",
            fix="State fidelity_db or ssim instead, or export trained weights.",
        )


def require_conditions(contract: Contract, names: Sequence[str], *, where: str) -> None:
    """Refuse limits on degradations that are not going to be measured, before anything is.

    Raises:
        UsageError: there is one; the nearest of ``names`` is offered.
    """
    for key in ("degradations", "least_gain_db"):
        for name in getattr(contract.quality, key):
            if name not in names:
                raise UsageError(
                    f"no degradation '{name}' is measured", where=f"{where}: quality.{key}", fix=nearest(name, names)
                )


def quality_checks(contract: Contract, drift: Sequence[PictureDrift], *, where: str) -> list[Check]:
    """The contract's limits on pictures, held against `edgeir.compare.drift.measure_drift`'s rows.

    Raises:
        UsageError: a degradation is named that was not measured; the nearest is offered.
    """
    quality = contract.quality
    rows = {row.condition: row for row in by_condition(drift)}
    worst, picture = worst_condition(drift), worst_sample(drift)
    checks = [
        *_limit("mean drift", mean_drift_db(drift), quality.mean_drift_db, "dB", _DRIFT_ADVICE),
        *_limit(
            f"mean drift under the worst degradation ({worst.condition})",
            worst.mean_drift_db,
            quality.worst_degradation_db,
            "dB",
            _DRIFT_ADVICE,
        ),
        *_limit(
            f"drift of the worst picture ({picture.picture} under {picture.condition})",
            picture.drift_db,
            quality.worst_picture_db,
            "dB",
            _DRIFT_ADVICE,
        ),
    ]
    for name, limit in quality.degradations.items():
        row = _row(rows, name, f"{where}: quality.degradations")
        checks += _limit(f"mean drift under {name}", row.mean_drift_db, limit, "dB", _DRIFT_ADVICE)
    for name, limit in quality.least_gain_db.items():
        row = _row(rows, name, f"{where}: quality.least_gain_db")
        checks += _limit(f"gain under {name}", row.engine_db - row.input_db, limit, "dB", _GAIN_ADVICE, least=True)
    return [
        *checks,
        *_limit(
            "worst fidelity",
            min(row.fidelity_db for row in drift),
            quality.fidelity_db,
            "dB",
            _DRIFT_ADVICE,
            least=True,
        ),
        *_limit("worst SSIM", min(row.ssim for row in drift), quality.ssim, "", _DRIFT_ADVICE, least=True),
        *_limit(
            "brightness shift, of 255",
            max(abs(row.brightness_shift_8bit) for row in drift),
            quality.brightness_shift_8bit,
            "",
            _DRIFT_ADVICE,
        ),
        *_limit(
            "hue shift", max(abs(row.look.hue_shift_deg) for row in drift), quality.hue_shift_deg, "°", _DRIFT_ADVICE
        ),
    ]


def cost_checks(contract: Contract, measured: Measured) -> list[Check]:
    """The contract's limits on time and memory; a limit on what was not measured fails."""
    latency, memory = contract.latency or LatencyLimits(), contract.memory or MemoryLimits()
    return [
        *_limit("p50 latency", measured.p50_ms, latency.p50_ms, "ms", _TIME_ADVICE),
        *_limit("p95 latency", measured.p95_ms, latency.p95_ms, "ms", _TIME_ADVICE),
        *_limit(
            "pictures per second",
            measured.pictures_per_second,
            latency.pictures_per_second,
            "",
            _TIME_ADVICE,
            least=True,
        ),
        *_limit("peak memory", measured.peak_mib, memory.peak_mib, "MiB", _MEMORY_ADVICE),
        *_limit("size of the bundle", measured.bundle_mb, memory.bundle_mb, "MB", "Leave engines out: --target ort."),
    ]


def _limit(
    name: str, value: float | None, limit: float | None, unit: str, advice: str, *, least: bool = False
) -> list[Check]:
    """One check, or none where the contract states no limit."""
    if limit is None:
        return []
    measured = float("nan") if value is None else value
    return [Check(f"contract: {name}", measured, limit, unit, "min" if least else "max", advice)]


def _row(rows: Mapping[str, ConditionDrift], name: str, where: str) -> ConditionDrift:
    if name not in rows:
        raise UsageError(f"no degradation '{name}' was measured", where=where, fix=nearest(name, rows))
    return rows[name]
