"""The fused ops at the sizes of real networks, our kernels and what torch offers instead: for `benchmarks.gpu`.

Every way gets the same tensors and gives the same answer, but for the one whose name says that it leaves the bias out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from edgeir.models import fused

TYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
Inputs = Mapping[str, Tensor]
Way = Callable[[Inputs], Tensor]


@dataclass(frozen=True, slots=True)
class Workload:
    """One op at one size.

    Attributes:
        name: op, network and size.
        make: fresh inputs from a seed.
        ways: name to what computes it; ``"ours"`` is one of them.
        exact: the answer in float64 from inputs in float64.
        flops: operations that no way can leave out: two per multiply-accumulate.
        moved_bytes: every input read once and the output written once.
        per_window: inputs whose first axis is windows or pictures that do not see each other.
        masked_bytes: what the masked form allocates beyond inputs and output, at least; 0 where there is none.
    """

    name: str
    make: Callable[[int], Inputs]
    ways: Mapping[str, Way]
    exact: Way
    flops: float
    moved_bytes: float
    per_window: tuple[str, ...]
    masked_bytes: float = 0.0


def address(tensor: Tensor) -> ctypes.c_void_p:
    """Of the first element; the tensor must be contiguous."""
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


def stream_of(tensor: Tensor) -> ctypes.c_void_p:
    """Torch's current stream, nothing on a CPU."""
    return ctypes.c_void_p(torch.cuda.current_stream(tensor.device).cuda_stream if tensor.is_cuda else None)


def launch(library: ctypes.CDLL, name: str, tensors: list[Tensor], sizes: tuple[int, ...]) -> None:
    """Call a launcher of ``edgeir/ops/cuda/launchers.h``.

    Raises:
        RuntimeError: it refused, or CUDA did.
    """
    kind = TYPES[tensors[0].dtype]
    numbers = [ctypes.c_int(number) for number in (*sizes, kind)]
    status = getattr(library, name)(*map(address, tensors), *numbers, stream_of(tensors[0]))
    if status != 0:
        raise RuntimeError(f"{name} gave {status} for {tuple(tensors[0].shape)}")


def normal_numbers(random: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    """Normally distributed, on the generator's device."""
    return torch.randn(*shape, generator=random, device=random.device).to(dtype)


def directions(of: Inputs) -> tuple[Tensor, Tensor]:
    """Queries and keys whose plain products are the logits, but for the bias."""
    return F.normalize(of["query"], dim=-1) * of["scale"], F.normalize(of["key"], dim=-1)


# Key-graph attention: query, key, value (windows, heads, n, d), keep (windows, n, n), bias (heads, n, n), scale.


def our_attention(library: ctypes.CDLL, of: Inputs) -> Tensor:
    """The kernel."""
    output = torch.empty_like(of["query"])
    names = ("query", "key", "value", "keep", "bias", "scale")
    launch(library, "edgeir_key_graph_attention", [*(of[name] for name in names), output], (*output.shape, 1))
    return output


def masked_attention(of: Inputs) -> Tensor:
    """The masked form, as a network writes it."""
    query, key = F.normalize(of["query"], dim=-1), F.normalize(of["key"], dim=-1)
    logits = query @ key.transpose(-2, -1) * of["scale"] + of["bias"]
    return logits.masked_fill(~of["keep"][:, None], float("-inf")).softmax(dim=-1) @ of["value"]


def attention_with_added_mask(of: Inputs) -> Tensor:
    """Torch's own attention with bias and mask in one tensor, which is made here: each layer has its own bias."""
    mask = of["bias"].masked_fill(~of["keep"][:, None], float("-inf"))
    query, key = directions(of)
    return F.scaled_dot_product_attention(query, key, of["value"], attn_mask=mask, scale=1.0)


def attention_without_bias(of: Inputs) -> Tensor:
    """Torch's own attention with a boolean mask, which leaves no room for a bias: what it would take at least."""
    query, key = directions(of)
    return F.scaled_dot_product_attention(query, key, of["value"], attn_mask=of["keep"][:, None], scale=1.0)


def block_mask(keep: Tensor) -> BlockMask:
    """The key graph as FlexAttention wants it; made once per stage."""
    windows, n, _ = keep.shape
    return create_block_mask(lambda b, _, q, k: keep[b, q, k], windows, None, n, n, device=str(keep.device))


def flex(of: Inputs, *, masks: dict[int, BlockMask], attend: Callable[..., Tensor] = flex_attention) -> Tensor:
    """FlexAttention with the block mask; it wants a power of two of channels.

    Args:
        of: the inputs.
        masks: block masks by the address of the key graph; filled here, outside of what is timed after the first call.
        attend: `flex_attention`, compiled on a GPU.
    """
    keep, bias = of["keep"], of["bias"]
    if keep.data_ptr() not in masks:
        masks[keep.data_ptr()] = block_mask(keep)
    width = of["query"].shape[-1]
    room = (0, (1 << (width - 1).bit_length()) - width)
    query, key = (F.pad(rows, room) for rows in directions(of))
    found = attend(
        query,
        key,
        F.pad(of["value"], room),
        score_mod=lambda score, b, h, q, k: score + bias[h, q, k],
        block_mask=masks[keep.data_ptr()],
        scale=1.0,
    )
    return found[..., :width]


def make_attention(
    windows: int, heads: int, n: int, d: int, k: int, dtype: torch.dtype, device: str, seed: int
) -> dict[str, Tensor]:
    """Random tokens, and a key graph of random neighbours: k of n in every row, as scattered as they can be."""
    random = torch.Generator(device).manual_seed(seed)
    normal = partial(normal_numbers, random, dtype)
    order = torch.rand(windows, n, n, generator=random, device=device)
    keep = order <= order.kthvalue(k, dim=-1, keepdim=True).values
    rows = {name: normal(windows, heads, n, d) for name in ("query", "key", "value")}
    scale = 1 + 9 * torch.rand(heads, 1, 1, generator=random, device=device)
    return {**rows, "keep": keep, "bias": normal(heads, n, n), "scale": scale.to(dtype)}


def attention_workload(
    library: ctypes.CDLL,
    name: str,
    sizes: tuple[int, int, int, int, int],
    *,
    dtype: torch.dtype = torch.float16,
    device: str = "cuda",
    compiles: bool = True,
) -> Workload:
    """Key-graph attention.

    Args:
        library: the launchers.
        name: of the network and the picture.
        sizes: windows, heads, n, d, k.
        dtype: of T.
        device: where; ``compiles`` is for a GPU.
        compiles: whether torch's compiler takes part.
    """
    windows, heads, n, d, k = sizes
    masks: dict[int, BlockMask] = {}
    attend = torch.compile(flex_attention, dynamic=False) if compiles else flex_attention
    ways: dict[str, Way] = {
        "ours": partial(our_attention, library),
        "masked": masked_attention,
        "SDPA, added mask": attention_with_added_mask,
        "SDPA, boolean mask, NO BIAS": attention_without_bias,
        "FlexAttention": partial(flex, masks=masks, attend=attend),
    }
    if compiles:
        ways["masked, compiled"] = torch.compile(masked_attention, dynamic=False)
    width = torch.finfo(dtype).bits // 8
    rows = windows * heads * n * d
    return Workload(
        f"key-graph attention, {name}",
        partial(make_attention, windows, heads, n, d, k, dtype, device),
        ways,
        masked_attention,
        flops=4.0 * rows * n,
        moved_bytes=width * (4.0 * rows + heads * n * n) + windows * n * n,
        per_window=("query", "key", "value", "keep"),
        masked_bytes=width * float(windows * heads * n * n),
    )


# Key graph: tokens (windows, n, c).


def our_key_graph(library: ctypes.CDLL, k: int, of: Inputs) -> Tensor:
    """The kernel."""
    windows, n, c = of["tokens"].shape
    keep = torch.empty(windows, n, n, dtype=torch.bool, device=of["tokens"].device)
    launch(library, "edgeir_key_graph", [of["tokens"], keep], (windows, n, c, k))
    return keep


def similarities(tokens: Tensor) -> Tensor:
    """``(windows, n, c) -> (windows, n, n)``, as `fused.key_graph` takes them; that one asks for state as well."""
    return tokens @ (tokens - tokens.mean(dim=1, keepdim=True)).transpose(-2, -1)


def topk_key_graph(k: int, of: Inputs) -> Tensor:
    """A matrix product, topk, and a comparison with the last of them."""
    similarity = similarities(of["tokens"])
    return similarity >= similarity.topk(k, dim=-1).values[..., -1:]


def scattered_key_graph(k: int, of: Inputs) -> Tensor:
    """The same, with the indices of topk written into an empty graph."""
    similarity = similarities(of["tokens"])
    keep = torch.zeros_like(similarity, dtype=torch.bool)
    return keep.scatter_(-1, similarity.topk(k, dim=-1, sorted=False).indices, True)


def make_tokens(windows: int, n: int, c: int, dtype: torch.dtype, device: str, seed: int) -> dict[str, Tensor]:
    """Random tokens with a common part, as features have."""
    random = torch.Generator(device).manual_seed(seed)
    return {"tokens": (2 + torch.randn(windows, n, c, generator=random, device=device)).to(dtype)}


def key_graph_workload(
    library: ctypes.CDLL,
    name: str,
    sizes: tuple[int, int, int, int],
    *,
    dtype: torch.dtype = torch.float16,
    device: str = "cuda",
    compiles: bool = True,
) -> Workload:
    """The key graph; arguments as `attention_workload`, sizes are windows, n, c, k."""
    windows, n, c, k = sizes
    ways: dict[str, Way] = {
        "ours": partial(our_key_graph, library, k),
        "matmul and topk": partial(topk_key_graph, k),
        "matmul, topk, scatter": partial(scattered_key_graph, k),
    }
    if compiles:
        ways["matmul and topk, compiled"] = torch.compile(partial(topk_key_graph, k), dynamic=False)
    width = torch.finfo(dtype).bits // 8
    return Workload(
        f"key graph, {name}",
        partial(make_tokens, windows, n, c, dtype, device),
        ways,
        partial(topk_key_graph, k),
        flops=2.0 * windows * n * n * c,
        moved_bytes=width * float(windows * n * c) + windows * n * n,
        per_window=("tokens",),
    )


# GST attention: query, key, value (N, C, H, W), tokens (N, C, H/s, W/s), temperature (heads, 1, 1), alpha (1).

_GST = ("query", "key", "value", "tokens", "temperature", "alpha")


def our_gst(library: ctypes.CDLL, heads: int, stride: int, of: Inputs) -> Tensor:
    """The six kernels, with their workspace."""
    output = torch.empty_like(of["query"])
    sizes = (*output.shape, heads, stride)
    asked = library.edgeir_gst_attention_workspace
    asked.restype = ctypes.c_int64
    size = int(asked(*(ctypes.c_int(number) for number in (*sizes, TYPES[output.dtype]))))
    workspace = torch.empty(size, dtype=torch.uint8, device=output.device)
    launch(library, "edgeir_gst_attention", [*(of[name] for name in _GST), output, workspace], sizes)
    return output


def fast_gst(heads: int, stride: int, of: Inputs) -> Tensor:
    """The exact fast form that the networks compute."""
    return fused.gst_attention(*(of[name] for name in _GST), heads=heads, stride=stride)


def published_gst(heads: int, stride: int, of: Inputs) -> Tensor:
    """As published: tokens upsampled, everything concatenated, rows combined at the end."""
    n, c, height, width = of["query"].shape
    rows = (n, heads, c // heads, height * width)
    low = of["tokens"].flatten(2).softmax(dim=-1).reshape(of["tokens"].shape)
    g = F.interpolate(low, scale_factor=stride, mode="bilinear", align_corners=False).reshape(rows)
    query, key, value = (torch.cat([of[name].reshape(rows), g], dim=2) for name in _GST[:3])
    logits = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
    both = (logits * of["temperature"]).softmax(dim=-1) @ value
    return (both[:, :, : c // heads] + of["alpha"] * both[:, :, c // heads :]).reshape(n, c, height, width)


def make_gst(
    batch: int, channels: int, side: int, heads: int, stride: int, dtype: torch.dtype, device: str, seed: int
) -> dict[str, Tensor]:
    """Random maps."""
    random = torch.Generator(device).manual_seed(seed)
    normal = partial(normal_numbers, random, dtype)
    maps = {name: normal(batch, channels, side, side) for name in ("query", "key", "value")}
    tokens = normal(batch, channels, side // stride, side // stride)
    temperature = (1 + torch.rand(heads, 1, 1, generator=random, device=device)).to(dtype)
    return {
        **maps,
        "tokens": tokens,
        "temperature": temperature,
        "alpha": torch.full((1,), 0.1, device=device, dtype=dtype),
    }


def gst_workload(
    library: ctypes.CDLL,
    name: str,
    sizes: tuple[int, int, int, int, int],
    *,
    dtype: torch.dtype = torch.float16,
    device: str = "cuda",
    compiles: bool = True,
) -> Workload:
    """GST attention; arguments as `attention_workload`, sizes are batch, channels, side, heads, stride."""
    batch, channels, side, heads, stride = sizes
    ways: dict[str, Way] = {
        "ours": partial(our_gst, library, heads, stride),
        "fast form": partial(fast_gst, heads, stride),
        "published": partial(published_gst, heads, stride),
    }
    if compiles:
        ways["fast form, compiled"] = torch.compile(partial(fast_gst, heads, stride), dynamic=False)
        ways["published, compiled"] = torch.compile(partial(published_gst, heads, stride), dynamic=False)
    width = torch.finfo(dtype).bits // 8
    maps, positions, per_head = batch * channels * side * side, batch * side * side, channels // heads
    # [Q; G] times [K; G] and the products with values and low-resolution tokens.
    products = positions * heads * (4 * per_head**2 + per_head**2) + positions / stride**2 * heads * per_head**2
    return Workload(
        f"GST attention, {name}",
        partial(make_gst, batch, channels, side, heads, stride, dtype, device),
        ways,
        partial(fast_gst, heads, stride),
        flops=2.0 * products,
        moved_bytes=width * (4.0 * maps + maps / stride**2),
        per_window=_GST[:4],
    )
