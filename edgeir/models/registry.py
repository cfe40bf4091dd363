"""The zoo: architectures, and the named variants of each, as two literal tables. Importing this imports no torch.

``parameters`` are exact. ``gmac_256`` (reference form) and ``gmac_256_fast`` (the form that is exported) are
multiply-accumulates of convolutions and matrix products for one 256x256 input, in units of 1e9, as
`edgeir.models.cost.count_gmac` measures them; a test measures every figure again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeir.errors import UsageError, nearest


@dataclass(frozen=True, slots=True)
class Architecture:
    """Where an architecture's classes live.

    Attributes:
        module: dotted name of the module; importing it imports torch.
        network: name of the network class in it; built from one settings object.
        config: name of the settings class in it.
        inference_settings: settings that may change after training without making it another model.
    """

    module: str
    network: str
    config: str
    inference_settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """One named model of the zoo.

    Attributes:
        architecture: key of `ARCHITECTURES`.
        config: settings that differ from the architecture's defaults, JSON values.
        description: one line.
        parameters: number of parameters, exact.
        gmac_256: cost of one 256x256 input in reference form, 1e9 multiply-accumulates.
        gmac_256_fast: the same in fast form.
        multiple: sides of the input are multiples of it, in pixels.
    """

    architecture: str
    config: Mapping[str, Any]
    description: str
    parameters: int
    gmac_256: float
    gmac_256_fast: float
    multiple: int

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along each side."""
        return int(self.config.get("scale", 1))


ARCHITECTURES: dict[str, Architecture] = {
    "exda": Architecture("edgeir.models.exda", "ExDA", "ExDAConfig"),
    "kgt": Architecture("edgeir.models.kgt", "KGT", "KGTConfig", inference_settings=("k", "k_choices")),
    "cea": Architecture("edgeir.models.cea", "CEA", "CEAConfig"),
    "restormer": Architecture("edgeir.models.restormer", "Restormer", "RestormerConfig"),
    "promptir": Architecture("edgeir.models.promptir", "PromptIR", "PromptIRConfig"),
}

_COLUMNAR = {"layout": "columnar", "dim": 180, "heads": [6], "windows": [32]}
_COLUMNAR_S = {**_COLUMNAR, "layers": [6] * 6}
_COLUMNAR_B = {**_COLUMNAR, "layers": [8] * 8}
_KGT_TINY = {
    "dim": 32,
    "layers": [2, 2, 2, 2, 2, 2],
    "heads": [2, 4, 4],
    "windows": [16, 16, 8],
    "k": 64,
    "k_choices": [16, 32, 64, 96, 128],
}
_CEA_TINY = {"dim": 16, "blocks": [2, 3, 3, 4], "refine": 2, "heads": [1, 2, 4, 8]}

VARIANTS: dict[str, Variant] = {
    "exda-tiny": Variant("exda", {"dim": 24}, "ExDA, 6M class: all-in-one restoration", 5_826_216, 48.06, 43.29, 16),
    "exda-small": Variant("exda", {"dim": 32}, "ExDA, 10M class: all-in-one restoration", 10_237_728, 83.97, 75.48, 16),
    "exda-full": Variant("exda", {}, "ExDA, 22M class: all-in-one restoration", 22_765_008, 185.63, 166.53, 16),
    "kgt-tiny": Variant(
        "kgt", _KGT_TINY, "edgeir's own small KGT: blind colour denoising", 1_139_879, 17.96, 24.40, 32
    ),
    "kgt-s-x2": Variant(
        "kgt", _COLUMNAR_S | {"scale": 2}, "KGT-S, super-resolution x2", 11_869_991, 1270.46, 1705.33, 32
    ),
    "kgt-s-x3": Variant(
        "kgt", _COLUMNAR_S | {"scale": 3}, "KGT-S, super-resolution x3", 12_054_631, 1283.11, 1717.97, 32
    ),
    "kgt-s-x4": Variant(
        "kgt", _COLUMNAR_S | {"scale": 4}, "KGT-S, super-resolution x4", 12_017_703, 1310.47, 1745.34, 32
    ),
    "kgt-b-x2": Variant(
        "kgt", _COLUMNAR_B | {"scale": 2}, "KGT-B, super-resolution x2", 19_895_783, 2147.16, 2920.25, 32
    ),
    "kgt-b-x3": Variant(
        "kgt", _COLUMNAR_B | {"scale": 3}, "KGT-B, super-resolution x3", 20_080_423, 2159.80, 2932.90, 32
    ),
    "kgt-b-x4": Variant(
        "kgt", _COLUMNAR_B | {"scale": 4}, "KGT-B, super-resolution x4", 20_043_495, 2187.17, 2960.27, 32
    ),
    "kgt-unet": Variant("kgt", {}, "KGT: blind colour denoising", 25_820_703, 219.96, 308.54, 64),
    "cea-tiny": Variant("cea", _CEA_TINY, "edgeir's own small CEA: all-in-one restoration", 1_545_601, 10.22, 10.22, 8),
    "cea-base": Variant("cea", {}, "CEA on the slim Restormer: all-in-one restoration", 24_304_759, 154.71, 154.71, 8),
    "restormer-bias": Variant(
        "restormer", {}, "Restormer as published for deraining and deblurring", 26_126_644, 154.88, 154.88, 8
    ),
    "restormer-biasfree": Variant(
        "restormer", {"norm_bias": False}, "Restormer as published for denoising", 26_111_668, 154.88, 154.88, 8
    ),
    "promptir": Variant("promptir", {}, "PromptIR as published: all-in-one restoration", 35_592_263, 172.71, 172.71, 8),
}


def architecture(name: str) -> Architecture:
    """The entry of `ARCHITECTURES`; raises ``UsageError`` that offers the nearest name."""
    if name not in ARCHITECTURES:
        raise UsageError(f"unknown architecture '{name}'", fix=nearest(name, ARCHITECTURES))
    return ARCHITECTURES[name]


def variant(name: str) -> Variant:
    """The entry of `VARIANTS`; raises ``UsageError`` that offers the nearest name."""
    if name not in VARIANTS:
        raise UsageError(f"unknown model '{name}'", fix=nearest(name, VARIANTS))
    return VARIANTS[name]


def shipped_weights(name: str) -> Path:
    """Where the weights of variant ``name`` lie if they come with edgeir; the file need not exist."""
    return Path(__file__).parent / "weights" / f"{name}.safetensors"


def weights_state(name: str) -> str:
    """``"trained"`` where weights of the variant come with edgeir, else ``"untrained"``."""
    return "trained" if shipped_weights(name).is_file() else "untrained"
