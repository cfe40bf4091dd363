"""ExDA's attention and the layer norm for maps that lie in memory as ``(N, H, W, C)``: the order of training.

Convolutions in bf16 are two to three times faster in this memory format on a CPU, as long as nothing between them
falls back to ``(N, C, H, W)``. So these forms never do: pixels stay rows, and the Gram matrix is divided by the norms
instead of the maps. With real numbers the results are those of `edgeir.models.fused`; in FP16 the undivided Gram matrix
could overflow, which is why this form is not the one that is exported.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeir.models.norms import inverse_norm

__all__ = ["gst_attention", "is_channels_last", "layer_norm"]


def is_channels_last(maps: Tensor) -> bool:
    """Whether the channels of ``(N, C, H, W)`` maps lie side by side in memory; also true of a slice of channels."""
    return maps.shape[1] > 1 and maps.stride(1) == 1 and maps.stride(3) != 1


def layer_norm(maps: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer norm over C of ``(N, C, H, W)`` maps, biased variance; ``weight`` and ``bias`` are ``(C,)``."""
    return F.layer_norm(maps.permute(0, 2, 3, 1), (maps.shape[1],), weight, bias, eps).permute(0, 3, 1, 2)


def gst_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tokens: Tensor,
    temperature: Tensor,
    alpha: Tensor,
    *,
    heads: int,
    value_scale: str,
) -> Tensor:
    """`edgeir.models.fused.gst_attention` with the same arguments and result, in channels-last order."""
    weights = tokens.reshape(tokens.shape[0], heads, tokens.shape[1] // heads, -1).softmax(dim=-1)
    norm = torch.linalg.vector_norm(weights, dim=-1, keepdim=True)
    low = (weights / norm).to(query.dtype).reshape(tokens.shape).contiguous(memory_format=torch.channels_last)
    high = _upsample(low, query.shape)
    attention = (_cosines(query, key, high, heads) * temperature).softmax(dim=-1)
    width = query.shape[1] // heads
    attention = attention[:, :, :width] + alpha * attention[:, :, width:]
    scale = norm if value_scale == "raw" else norm * weights.shape[-1]
    from_tokens = _mixed(attention[..., width:] * scale.transpose(-2, -1), low, heads)
    return _mixed(attention[..., :width], value, heads) + _upsample(from_tokens, query.shape)


def _pixels(maps: Tensor, heads: int) -> Tensor:
    """``(N, C, H, W) -> (N, heads, H*W, C / heads)``, a view."""
    batch, channels, height, width = maps.shape
    return maps.permute(0, 2, 3, 1).reshape(batch, height * width, heads, channels // heads).transpose(1, 2)


def _cosines(query: Tensor, key: Tensor, tokens: Tensor, heads: int) -> Tensor:
    """Cosine similarities ``(N, heads, 2c, 2c)`` of ``[query; tokens]`` with ``[key; tokens]``."""
    pixels_q, pixels_k, pixels_g = (_pixels(maps, heads) for maps in (query, key, tokens))
    norms_q, norms_k, norms_g = (_inverse_norms(pixels) for pixels in (pixels_q, pixels_k, pixels_g))
    gram = torch.cat([pixels_q, pixels_g], dim=-1).transpose(-2, -1) @ torch.cat([pixels_k, pixels_g], dim=-1)
    scale_q, scale_k = torch.cat([norms_q, norms_g], dim=-1), torch.cat([norms_k, norms_g], dim=-1)
    return gram * scale_q.unsqueeze(-1) * scale_k.unsqueeze(-2)


def _inverse_norms(pixels: Tensor) -> Tensor:
    """``1 / max(norm, 1e-12)`` of every channel over the pixels: ``(N, heads, L, c) -> (N, heads, c)``."""
    return inverse_norm(pixels.square().mean(dim=-2), pixels.shape[-2])


def _mixed(attention: Tensor, maps: Tensor, heads: int) -> Tensor:
    """``attention @ rows``: ``(N, heads, c, c), (N, C, H, W) -> (N, C, H, W)``, channels last."""
    batch, channels, height, width = maps.shape
    pixels: Tensor = _pixels(maps, heads) @ attention.transpose(-2, -1).to(maps.dtype)
    return pixels.transpose(1, 2).reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def _upsample(maps: Tensor, shape: torch.Size) -> Tensor:
    """Bilinear upsampling of ``(N, C, h, w)`` to the H and W of ``shape``."""
    return F.interpolate(maps, size=shape[2:], mode="bilinear", align_corners=False)
