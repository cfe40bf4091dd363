"""Networks told from their tensors alone: every variant, and settings of our choosing."""

from __future__ import annotations

import pytest
import torch

from edgeir.errors import CheckpointError
from edgeir.models.build import build, describe, name_of
from edgeir.models.recognise import recognise
from edgeir.models.registry import VARIANTS

SMALL = {"dim": 4, "blocks": [1, 2, 3, 1], "refine": 2, "heads": [1, 2, 4, 2]}
U = {"dim": 8, "layers": [1, 2, 3, 1, 2, 3], "heads": [1, 2, 4], "cpb_hidden": 16, "mlp_ratio": 1.5}
COLUMNAR = {"layout": "columnar", "dim": 12, "layers": [2, 1], "heads": [3], "windows": [32], "cpb_hidden": 8}


def told(architecture: str, config: dict[str, object]) -> tuple[str, dict[str, object]]:
    return recognise(build(architecture, config, device="meta").state_dict(), where="file")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant(name: str) -> None:
    entry = VARIANTS[name]
    architecture, config = recognise(build(entry.architecture, entry.config, device="meta").state_dict(), where="file")
    assert name_of(architecture, config) == name


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("exda", SMALL),
        ("exda", {**SMALL, "gst_proj": "none", "nlv_ratio": 0.0, "ffn_ratio": 2.66}),
        ("exda", {**SMALL, "gst_proj": "full", "nlv_ratio": 1.25, "decoder_entry": "restormer"}),
        ("restormer", {**SMALL, "norm_bias": False}),
        ("restormer", {**SMALL, "decoder_entry": "slim", "dim": 24, "ffn_ratio": 2.66}),
        ("promptir", {**SMALL, "ffn_ratio": 2.0}),
        ("cea", {**SMALL, "rank": 3, "adapter_width": 10, "ffn_ratio": 2.0}),
        ("cea", {**SMALL, "rank": 3, "adapter_width": 10, "placement": "all_blocks", "ffn_ratio": 2.0}),
        ("kgt", {**U, "windows": [32, 32, 16]}),
        *(("kgt", {**COLUMNAR, "scale": scale}) for scale in (1, 2, 3, 4)),
    ],
    ids=str,
)
def test_other_settings(architecture: str, config: dict[str, object]) -> None:
    found, settings = told(architecture, config)
    assert found == architecture
    assert describe("x", found, settings, None) == describe("x", architecture, config, None)


def test_ambiguous_ratios_still_give_the_same_tensors() -> None:
    """At four channels, ratios 2.66 and 2.7 make the same widths: any of them will do."""
    config = {**SMALL, "ffn_ratio": 2.661}
    _, settings = told("restormer", config)
    shapes = [
        {name: tensor.shape for name, tensor in build("restormer", made, device="meta").state_dict().items()}
        for made in (config, settings)
    ]
    assert shapes[0] == shapes[1]


def test_incomplete_checkpoints_say_what_is_missing() -> None:
    state = dict(build("restormer", SMALL, device="meta").state_dict())
    del state["latent.0.ffn.project_out.weight"]
    with pytest.raises(CheckpointError, match=r"looks like restormer.*latent\.0\.ffn\.project_out\.weight"):
        recognise(state, where="file")


def test_unknown_networks() -> None:
    with pytest.raises(CheckpointError, match=r"2 tensors: model\.0\.weight, model\.0\.bias"):
        recognise({"model.0.weight": torch.ones(1), "model.0.bias": torch.ones(1)}, where="file")
