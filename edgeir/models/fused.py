"""The fused operations as the networks call them.

In eager mode each function computes its exact fast form with torch. Under ``torch.onnx.export`` the functions that
`edgeir.ops.table` lists emit one node of domain ``edgeir`` instead, whose meaning is the ONNX body of the same name in
`edgeir.ops.functions`; `export.trace` attaches the bodies.

Numerics: row norms equal ``torch.nn.functional.normalize`` exactly, its epsilon included. Sources: Restormer section
3.1 (channel attention), ExDA section 3 (global spatial tokens), KGT section 3.2 (key graph), GRL section 3 (cosine
attention with position bias).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeir.models import channels_last
from edgeir.models.norms import inverse_norm
from edgeir.ops import table

# Similarities closer than this to the limit, relative to the product of the norms, are ties: float32 sums of some dozen
# products differ by about 1e-6 between runtimes, and so do the tokens after a few stages.
TIE = 1e-5


class GivenKeyGraphs:
    """Key graphs that another runtime chose, to be used in place of a network's own; see `given_key_graphs`.

    Attributes:
        overlaps: Jaccard overlap of each own graph with the given one, in the order they were needed. Neighbours whose
            similarity is within rounding of the limit count as agreed: either choice is right.
    """

    def __init__(self, graphs: Sequence[Tensor]) -> None:
        self._graphs = list(graphs)
        self.overlaps: list[float] = []

    def replace(self, own: Tensor, tied: Tensor) -> Tensor:
        """The next given graph, after comparing it with ``own`` where it is not ``tied``; all ``(windows, n, n)``."""
        given = self._graphs[len(self.overlaps)]
        settled = torch.where(tied, own, given)
        self.overlaps.append(float((own & settled).sum() / (own | settled).sum()))
        return given


_given: ContextVar[GivenKeyGraphs | None] = ContextVar("given_key_graphs", default=None)


@contextmanager
def given_key_graphs(graphs: Sequence[Tensor]) -> Iterator[GivenKeyGraphs]:
    """Make eager networks use ``graphs``, ``(windows, n, n)`` bool each, one per stage in order, instead of their own.

    Choosing the k largest is discontinuous: a rounding error swaps two neighbours of almost equal similarity, and the
    outputs of two exact runtimes then differ visibly. Given one choice, everything else can be compared closely, and
    the choice itself by its overlap.
    """
    given = GivenKeyGraphs(graphs)
    token = _given.set(given)
    try:
        yield given
    finally:
        _given.reset(token)


def unit_rows(rows: Tensor) -> Tensor:
    """Rows divided by their L2 norm: ``(..., L) -> (..., L)``, equal to ``F.normalize(rows, dim=-1)``.

    For float32 and float64; the ONNX bodies take the same norm in float32 whatever the type of the rows.
    """
    return rows * inverse_norm(rows.square().mean(dim=-1, keepdim=True), rows.shape[-1])


def unit_maps(maps: Tensor) -> Tensor:
    """Maps divided by their L2 norm: ``(N, C, H, W) -> (N, C, H, W)``, `unit_rows` of the maps' positions.

    The mean of squares is taken along rows first and then over rows: runtimes that sum one element after the other lose
    2e-4 of the norm of a 1024x1024 map otherwise, and 1e-7 this way.
    """
    mean_square = maps.square().mean(dim=-1, keepdim=True).mean(dim=-2, keepdim=True)
    return maps * inverse_norm(mean_square, maps.shape[-2] * maps.shape[-1])


def channel_attention(query: Tensor, key: Tensor, value: Tensor, temperature: Tensor, *, heads: int) -> Tensor:
    """Multi-DConv head transposed attention without its projections (Restormer, section 3.1).

    Args:
        query, key, value: ``(N, C, H, W)``, C divisible by ``heads``.
        temperature: ``(heads, 1, 1)``, multiplies the cosine similarities.
        heads: number of heads; head i owns channels ``i*C/heads`` to ``(i+1)*C/heads``.

    Returns:
        ``(N, C, H, W)``.
    """
    shape = query.shape
    query, key = unit_maps(query), unit_maps(key)
    query, key, value = (x.reshape(shape[0], heads, shape[1] // heads, -1) for x in (query, key, value))
    attention = (query @ key.transpose(-2, -1) * temperature).softmax(dim=-1)
    return (attention @ value).reshape(shape)


def gst_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: Tensor,
    temperature: Tensor,
    alpha: Tensor,
    *,
    heads: int,
    stride: int,
    value_scale: str = "raw",
) -> Tensor:
    """ExDA's channel attention over ``[Q; G], [K; G], [V'; G]`` with the upsampling of G's values fused away.

    Args:
        query, key, value: ``(N, C, H, W)``; value is ``V' = V + g(V)``.
        tokens: ``(N, C, H/stride, W/stride)``, the projected pooled features before the spatial softmax.
        temperature: ``(heads, 1, 1)``.
        alpha: ``(1,)``, weight of the global rows when they are re-injected.
        heads: number of heads.
        stride: pooling stride s of the tokens, at least 1.
        value_scale: ``"raw"`` (tokens sum to 1 over the picture, as published) or ``"mean1"`` (tokens have mean 1).

    Returns:
        ``(N, C, H, W)``, before the output projection. The rows of the attention matrix are combined before the value
        product, and the token part of that product runs at low resolution: both identities are exact.
    """
    if value_scale == "raw" and torch.onnx.is_in_onnx_export():
        return torch.onnx.ops.symbolic(
            table.GST_ATTENTION.qualified_name,
            (query, key, value, tokens, temperature, alpha),
            attrs={"heads": heads, "stride": stride, **table.plugin_attributes()},
            dtype=query.dtype,
            shape=query.shape,
            version=table.VERSION,
        )
    if channels_last.is_channels_last(query):
        return channels_last.gst_attention(
            query, key, value, tokens, temperature, alpha, heads=heads, value_scale=value_scale
        )
    shape, low_shape = query.shape, tokens.shape
    width = shape[1] // heads
    query, key, value = (x.reshape(shape[0], heads, width, -1) for x in (query, key, value))
    global_tokens = tokens.reshape(shape[0], heads, width, -1).softmax(dim=-1)
    norm = torch.linalg.vector_norm(global_tokens, dim=-1, keepdim=True)
    unit_tokens = global_tokens / norm  # of order 1/sqrt(positions): FP16 keeps them, raw softmax values vanish
    rows = torch.cat([unit_rows(query), upsampled := unit_rows(_upsample(unit_tokens, low_shape, shape))], dim=2)
    columns = torch.cat([unit_rows(key), upsampled], dim=2)
    attention = (rows @ columns.transpose(-2, -1) * temperature).softmax(dim=-1)
    attention = attention[:, :, :width] + alpha * attention[:, :, width:]
    scale = norm if value_scale == "raw" else norm * global_tokens.shape[-1]
    low = (attention[..., width:] * scale.transpose(-2, -1)) @ unit_tokens
    output = attention[..., :width] @ value + _upsample(low, low_shape, shape)
    return output.reshape(shape)


def _upsample(rows: Tensor, low_shape: torch.Size, shape: torch.Size) -> Tensor:
    """Bilinear upsampling of ``(N, heads, C/heads, h*w)`` rows to ``(N, heads, C/heads, H*W)``."""
    high = F.interpolate(rows.reshape(low_shape), size=shape[2:], mode="bilinear", align_corners=False)
    return high.reshape(shape[0], rows.shape[1], rows.shape[2], -1)


def key_graph(tokens: Tensor, k: int) -> Tensor:
    """Each token's k nearest tokens of its window by raw dot product (KGT, section 3.2).

    Args:
        tokens: ``(windows, n, c)``, the stage input without projection.
        k: neighbours kept per token, 1 to n.

    Returns:
        ``(windows, n, n)`` bool: row i is true where the dot product reaches the k-th largest of row i. Rows are
        directed, the matrix is not symmetrised; equal products at the limit are all kept.
    """
    if torch.onnx.is_in_onnx_export():
        windows, n, _ = tokens.shape
        return torch.onnx.ops.symbolic(
            table.KEY_GRAPH.qualified_name,
            (tokens,),
            attrs={"k": k, **table.plugin_attributes()},
            dtype=torch.bool,
            shape=(windows, n, n),
            version=table.VERSION,
        )
    # Any vector may be subtracted from all keys: a row's products move together. The mean keeps rounding out of them.
    centred = tokens - tokens.mean(dim=1, keepdim=True)
    similarity = tokens @ centred.transpose(-2, -1)
    limit = similarity.topk(k, dim=-1).values[..., -1:]
    keep = similarity >= limit
    given = _given.get()
    if given is None:
        return keep
    largest = (
        torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
        * torch.linalg.vector_norm(centred, dim=-1).amax(dim=-1)[:, None, None]
    )
    return given.replace(keep, (similarity - limit).abs() <= TIE * largest)


def key_graph_attention(query: Tensor, key: Tensor, value: Tensor, keep: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
    """Cosine attention with position bias, restricted to the key graph (KGT section 3.3 in GRL's attention).

    Args:
        query, key, value: ``(windows, heads, n, d)``.
        keep: ``(windows, n, n)`` bool, at least one true per row.
        bias: ``(heads, n, n)``, added to the logits.
        scale: ``(heads, 1, 1)``, multiplies the cosine similarities.

    Returns:
        ``(windows, heads, n, d)``.
    """
    if torch.onnx.is_in_onnx_export():
        return torch.onnx.ops.symbolic(
            table.KEY_GRAPH_ATTENTION.qualified_name,
            (query, key, value, keep, bias, scale),
            attrs={**table.plugin_attributes()},
            dtype=query.dtype,
            shape=query.shape,
            version=table.VERSION,
        )
    logits = unit_rows(query) @ unit_rows(key).transpose(-2, -1) * scale + bias
    return logits.masked_fill(~keep.unsqueeze(1), table.MASKED_LOGIT).softmax(dim=-1) @ value
