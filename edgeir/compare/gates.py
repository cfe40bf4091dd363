"""The limits that exports are held to (design section 5), each a named number."""

from __future__ import annotations

from dataclasses import dataclass

from edgeir.precision import Precision


@dataclass(frozen=True, slots=True)
class Gates:
    """Limits of one precision.

    Attributes:
        fidelity_db: least PSNR of the engine's output against the reference's output.
        max_abs: largest absolute difference to the reference, ``None`` where rounding makes it meaningless.
        mean_drift_db: largest mean loss of PSNR against the truth.
        worst_drift_db: largest loss of a single picture, ``None`` where degradations are judged and not pictures.
        mean_drift_warn_db: mean loss that a report warns of, if there is a lower one than the limit.
        worst_degradation_db: largest mean loss under one degradation, if that is judged.
        brightness_shift_8bit: largest shift of a picture's mean brightness, of 255, if that is judged.
        key_graph_overlap: least Jaccard overlap of a key graph with the reference's.
    """

    fidelity_db: float
    max_abs: float | None
    mean_drift_db: float
    worst_drift_db: float | None
    key_graph_overlap: float
    mean_drift_warn_db: float | None = None
    worst_degradation_db: float | None = None
    brightness_shift_8bit: float | None = None


# INT8 changes a picture's noise, not its look: 30 dB of fidelity is what a broken graph misses, and a good one passes
# untrained as well. Overlap: a choice among rounded tokens is another choice; the FP16 plan keeps them in FP32.
_EIGHT_BITS = Gates(
    fidelity_db=30.0,
    max_abs=None,
    mean_drift_db=0.30,
    worst_drift_db=None,
    key_graph_overlap=0.90,
    mean_drift_warn_db=0.15,
    worst_degradation_db=0.50,
    brightness_shift_8bit=0.25,
)


# FP32: a faithful export differs by rounding only, about 1e-6 on [0, 1]. FP16: at a reference of 32.7 dB, 55 dB of
# fidelity costs 0.026 dB if the two errors are independent. Key graphs: a norm layer in front of one amplifies rounding
# where the picture is flat (0.9986 was seen between two FP32 runtimes on an untrained micro network).
GATES = {
    Precision.FP32: Gates(
        fidelity_db=90.0, max_abs=1e-4, mean_drift_db=0.001, worst_drift_db=0.005, key_graph_overlap=0.99
    ),
    Precision.FP16: Gates(
        fidelity_db=55.0, max_abs=None, mean_drift_db=0.02, worst_drift_db=0.10, key_graph_overlap=0.98
    ),
    Precision.INT8: _EIGHT_BITS,
    Precision.FP8: _EIGHT_BITS,
}
