"""Which network a checkpoint holds, and with which settings, told from the names and shapes of its tensors alone.

Settings that leave no trace in names or shapes are taken from the variant of the zoo that has the same tensors, else
from the architecture's defaults: for ExDA the stride and style switches, for KGT windows and k, for CEA the pooling.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edgeir.errors import CheckpointError
from edgeir.models.build import build
from edgeir.models.registry import ARCHITECTURES, VARIANTS

Tensors = Mapping[str, Tensor]

_LEVELS = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")
_DIGITS = 4


def recognise(tensors: Tensors, *, where: str) -> tuple[str, dict[str, Any]]:
    """``(architecture, config)`` of a checkpoint; the caller still has to check that all tensors fit.

    Args:
        tensors: name to tensor, wrappers and prefixes removed.
        where: the file, for errors.

    Raises:
        CheckpointError: no architecture of the zoo has such tensors.
    """
    architecture = _architecture(tensors)
    if architecture is None:
        raise CheckpointError(
            "the checkpoint is of no network that edgeir knows",
            where=where,
            expected=", ".join(ARCHITECTURES),
            got=f"{len(tensors)} tensors: {', '.join(list(tensors)[:3])}",
        )
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for entry in VARIANTS.values():
        if entry.architecture != architecture:
            continue
        module = build(architecture, entry.config, device="meta")
        if {name: tensor.shape for name, tensor in module.state_dict().items()} == shapes:
            return architecture, dict(entry.config)
    try:
        return architecture, _kgt(tensors) if architecture == "kgt" else _encoder_decoder(architecture, tensors)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"the checkpoint looks like {architecture}, but tensors that tell its settings are missing or misshapen",
            where=where,
            got=str(error).strip("'"),
        ) from error


def _architecture(tensors: Tensors) -> str | None:
    """The architecture by the names that only it has."""
    if "head.weight" in tensors and any(".position_bias.cpb_mlp." in name for name in tensors):
        return "kgt"
    if "patch_embed.proj.weight" not in tensors or "encoder_level1.0.attn.temperature" not in tensors:
        return None
    if "prompt1.prompt_param" in tensors:
        return "promptir"
    if "encoder_level1.0.attn.alpha" in tensors:
        return "exda"
    if any(name.endswith(("adapter.probes", "adapters.decoder_level3.probes")) for name in tensors):
        return "cea"
    return "restormer"


def _encoder_decoder(architecture: str, tensors: Tensors) -> dict[str, Any]:
    """Settings of the four-level networks."""
    dim = int(tensors["patch_embed.proj.weight"].shape[0])
    hidden = [int(tensors[f"{level}.0.ffn.project_out.weight"].shape[1]) for level in _LEVELS]
    config: dict[str, Any] = {
        "dim": dim,
        "blocks": [_count(tensors, level) for level in _LEVELS],
        "refine": _count(tensors, "refinement"),
        "heads": [int(tensors[f"{level}.0.attn.temperature"].shape[0]) for level in _LEVELS],
        "ffn_ratio": _ratio(dim, hidden),
        "norm_bias": "encoder_level1.0.norm1.body.bias" in tensors,
    }
    entry = "slim" if "reduce_dim_level3.weight" in tensors else "restormer"
    if architecture in ("exda", "restormer"):
        config["decoder_entry"] = entry
    if architecture == "exda":
        config.update(_exda_attention(dim, tensors))
    if architecture == "cea":
        everywhere = "encoder_level1.0.adapter.probes" in tensors
        sites = [f"{level}.0.adapter" for level in _LEVELS] if everywhere else ["adapters.decoder_level3"]
        rank, width = tensors[f"{sites[-1]}.probes"].shape
        config.update(rank=rank, adapter_width=width, placement="all_blocks" if everywhere else "decoder3")
    return config


def _exda_attention(dim: int, tensors: Tensors) -> dict[str, Any]:
    """Settings that ExDA adds to those of Restormer."""
    projection = tensors.get("latent.0.attn.gst_proj.weight")
    heads = int(tensors["latent.0.attn.temperature"].shape[0])
    nlv = [tensors.get(f"{level}.0.attn.nlv.project_out.weight") for level in _LEVELS]
    widths = [int(weight.shape[1]) for weight in nlv if weight is not None]
    kind = "none"
    if projection is not None:
        kind = "grouped" if int(projection.shape[1]) * heads == 8 * dim else "full"
    return {"gst_proj": kind, "nlv_ratio": _ratio(dim, widths) if widths else 0.0}


def _kgt(tensors: Tensors) -> dict[str, Any]:
    """Settings of KGT; windows and k keep their defaults."""
    dim = int(tensors["head.weight"].shape[0])
    first = "body.stages.0" if "body.stages.0.conv.weight" in tensors else "body.final"
    hidden, _ = tensors[f"{first}.layers.0.attn.position_bias.cpb_mlp.0.weight"].shape
    config: dict[str, Any] = {
        "dim": dim,
        "mlp_ratio": _ratio(dim, [int(tensors[f"{first}.layers.0.mlp.fc1.weight"].shape[0])]),
        "cpb_hidden": int(hidden),
    }
    if first == "body.stages.0":
        stages = [f"body.stages.{number}" for number in range(_count(tensors, "body.stages"))]
        levels = stages[:1]
        factors = [
            int(tensors[name].shape[0]) for name in tensors if re.fullmatch(r"tail\.upsample\.\d+\.weight", name)
        ]
        config.update(layout="columnar", windows=[32], scale=math.prod(math.isqrt(wide // 64) for wide in factors))
    else:
        deepest = _count(tensors, "body.encoder")
        encoder = [f"body.encoder.{number}" for number in range(deepest)]
        stages = [*encoder, "body.latent", *(f"body.decoder.{number}" for number in range(deepest)), "body.final"]
        levels = [*encoder, "body.latent"]
        config.update(layout="u", windows=[32, 32, 16, 8][: deepest + 1])
    config["layers"] = [_count(tensors, f"{stage}.layers") for stage in stages]
    config["heads"] = [int(tensors[f"{level}.layers.0.attn.logit_scale"].shape[0]) for level in levels]
    return config


def _count(tensors: Tensors, prefix: str) -> int:
    """Number of children ``prefix.0``, ``prefix.1``, ..."""
    found = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in tensors)
    return 1 + max((int(match.group(1)) for match in found if match), default=-1)


def _ratio(dim: int, hidden: list[int]) -> float:
    """The shortest decimal r with ``int((dim << level) * r) == hidden[level]`` at every level."""
    widest = len(hidden) - 1
    for digits in range(1, _DIGITS + 1):
        ratio: float = math.ceil(hidden[widest] / (dim << widest) * 10**digits) / 10**digits
        if all(int((dim << level) * ratio) == wide for level, wide in enumerate(hidden)):
            return ratio
    raise ValueError(f"hidden widths {hidden} on {dim} channels")
