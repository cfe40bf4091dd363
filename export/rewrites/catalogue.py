"""The rules by name, in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnxscript.rewriter import RewriteRule, RewriteRuleClassBase

from edgeir.errors import UsageError, nearest
from edgeir.export.rewrites import channel_mean, gated_width, gst_projected, norm_affine, split_conv, unsorted_topk


def _rule(kind: type[RewriteRuleClassBase], *form: int) -> RewriteRule:
    rule: RewriteRule = kind.rule(*form)  # type: ignore[no-untyped-call]
    return rule


RULES: Mapping[str, tuple[RewriteRule, ...]] = {
    norm_affine.POOL: tuple(_rule(norm_affine.PoolBeforeAffine, shifted) for shifted in (True, False)),
    norm_affine.FOLD: tuple(_rule(norm_affine.AffineIntoConv, shifted) for shifted in (True, False)),
    gated_width.PAD: tuple(
        _rule(gated_width.PadGatedWidth, gelu_first, swapped)
        for gelu_first in (False, True)
        for swapped in (False, True)
    ),
    split_conv.SPLIT: tuple(_rule(split_conv.SplitConvs, parts) for parts in (2, 3)),
    gst_projected.GST: (_rule(gst_projected.GstProjected),),
    channel_mean.MEAN: (_rule(channel_mean.ChannelMeanAsProduct),),
    unsorted_topk.UNSORTED: (_rule(unsorted_topk.UnsortedTopK),),
}

FOR_RUNTIME: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": (split_conv.SPLIT, gst_projected.GST, channel_mean.MEAN, unsorted_topk.UNSORTED)
}
"""Rules that pay on one runtime only: in its prepared file (`edgeir.export.portability`), or where asked for."""

ON_REQUEST = frozenset(name for names in FOR_RUNTIME.values() for name in names)
"""The rules that `edgeir.export.rewrites.apply.rewrite` leaves out unless they are asked for."""


def require_rules(names: Iterable[str]) -> None:
    """Raise ``UsageError``, with the nearest name, unless every name is a rule's."""
    for name in names:
        if name not in RULES:
            raise UsageError(f"unknown rule '{name}'", expected=", ".join(RULES), fix=nearest(name, RULES))
