"""Settings of KGT: two layouts, per-level lists, and the key graph's k."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgeir.models.config import require, require_choice
from edgeir.spec import SizeRule

Layout = Literal["columnar", "u"]
Norm = Literal["post", "pre"]


@dataclass(frozen=True, slots=True)
class KGTConfig:
    """Settings of `edgeir.models.kgt.KGT`; the defaults are ``kgt-unet`` (blind colour denoising).

    Attributes:
        layout: ``"columnar"`` (stages in series, one width) or ``"u"`` (encoder-decoder with one level per head count).
        dim: channels of the (first) level; level i of a U has ``dim * 2**i``.
        layers: layers per stage in forward order. Columnar: one number per stage. U with L levels: 2L numbers, for the
            L-1 encoder stages, the bottleneck, the L-1 decoder stages (deepest first) and the final stage.
        heads: attention heads, one number (columnar) or one per level.
        windows: window sides in pixels of the level, one number (columnar) or one per level.
        k: neighbours per token in evaluation; capped at the tokens of a window, level by level.
        k_choices: in training k is drawn from these for every forward pass (SemanIR: better than any fixed k).
        scale: output pixels per input pixel, 1 to 4; above 1 columnar only.
        mlp_ratio: hidden width of the MLP over its channels.
        cpb_hidden: hidden width of the position-bias MLP.
        norm: ``"post"`` (after the branch, GRL's) or ``"pre"``.
        keep_self: every token keeps itself among its neighbours; off as published.

    Raises:
        UsageError: a value is out of range, or the lists do not fit the layout.
    """

    layout: Layout = "u"
    dim: int = 60
    layers: tuple[int, ...] = (6, 4, 4, 6, 4, 4, 6, 6)
    heads: tuple[int, ...] = (2, 4, 8, 8)
    windows: tuple[int, ...] = (32, 32, 16, 8)
    k: int = 512
    k_choices: tuple[int, ...] = (64, 128, 192, 256, 384, 512)
    scale: int = 1
    mlp_ratio: float = 2.0
    cpb_hidden: int = 512
    norm: Norm = "post"
    keep_self: bool = False

    def __post_init__(self) -> None:
        require_choice(self.layout, ("columnar", "u"), where="kgt: layout")
        require_choice(self.norm, ("post", "pre"), where="kgt: norm")
        levels = self.levels
        if self.layout == "columnar":
            self._require(levels == 1, "heads", "one number for the columnar layout")
            self._require(len(self.layers) >= 1, "layers", "one number per stage")
        else:
            self._require(levels >= 2, "heads", "two or more levels for the U layout")
            self._require(len(self.layers) == 2 * levels, "layers", f"{2 * levels} numbers for {levels} levels")
        self._require(len(self.windows) == levels, "windows", "as many numbers as heads")
        for name in ("layers", "heads", "windows", "k_choices"):
            self._require(len(getattr(self, name)) >= 1, name, "at least one number")
            self._require(min(getattr(self, name)) >= 1, name, "numbers >= 1")
        for name in ("dim", "k", "cpb_hidden"):
            self._require(getattr(self, name) >= 1, name, "a number >= 1")
        self._require(levels == 1 or self.dim % 2 == 0, "dim", "an even number")
        for level, count in enumerate(self.heads):
            self._require((self.dim << level) % count == 0, "heads", f"a divisor of {self.dim << level}, level {level}")
        self._require(self.dim * self.mlp_ratio >= 1, "mlp_ratio", f">= 1/{self.dim}")
        self._require(self.scale in (1, 2, 3, 4), "scale", "1, 2, 3 or 4")
        self._require(self.scale == 1 or self.layout == "columnar", "scale", "1 for the U layout")

    @property
    def levels(self) -> int:
        """Resolutions inside the network."""
        return len(self.heads)

    @property
    def size_rule(self) -> SizeRule:
        """Every level must be cut into whole windows."""
        multiple = math.lcm(*(window << level for level, window in enumerate(self.windows)))
        return SizeRule(multiple, multiple)

    def _require(self, condition: bool, name: str, expected: str) -> None:
        value = getattr(self, name)
        got = list(value) if isinstance(value, tuple) else value
        require(condition, f"setting '{name}' does not fit", where="kgt", expected=expected, got=got)
