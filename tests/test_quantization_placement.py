"""Which layers are quantised: every rule, the micro networks, and that modules and graphs get one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch

from edgeir.errors import GraphError, UsageError
from edgeir.precision import module_of
from edgeir.quantization_placement import (
    RULES,
    QuantizableLayer,
    convolution,
    covers,
    linear,
    matmul,
    place,
)
from edgeir.train.fake_quant import quantizable_layers

if TYPE_CHECKING:
    import onnx_ir as ir


@pytest.mark.parametrize(
    ("layer", "rule"),
    [
        (convolution("a", (64, 48, 3, 3), 1), None),
        (convolution("a", (64, 48, 1, 1), 1), None),
        (convolution("a", (64, 48, 3, 3), 1, is_first=True), "first"),
        (convolution("a", (64, 48, 3, 3), 1, is_last=True), "last"),
        (convolution("a.gst_proj", (64, 64, 1, 1), 1), "tokens"),
        (convolution("gst_proj.a", (64, 64, 1, 1), 1), None),
        # depthwise: a multiple of 8, and a kernel of at least 3x3
        (convolution("a", (144, 1, 3, 3), 144), None),
        (convolution("a", (254, 1, 3, 3), 254), "groups"),
        (convolution("a", (144, 1, 1, 1), 144), "groups"),
        (convolution("a", (144, 1, 3, 1), 144), "groups"),
        # other groups: the same where a group is narrow
        (convolution("a", (96, 12, 1, 1), 8), "groups"),
        (convolution("a", (96, 12, 3, 3), 8), None),
        (convolution("a", (60, 12, 3, 3), 5), "groups"),
        (convolution("a", (96, 48, 1, 1), 2), None),
        # few channels: one side of at least 16, one side a multiple of 8, a square kernel
        (convolution("a", (15, 15, 3, 3), 1), "channels"),
        (convolution("a", (8, 8, 3, 3), 1), "channels"),
        (convolution("a", (8, 17, 3, 3), 1), None),
        (convolution("a", (24, 6, 3, 3), 1), None),
        (convolution("a", (17, 15, 3, 3), 1), "channels"),
        (convolution("a", (24, 8, 3, 1), 1), "channels"),
        (convolution("a", (17, 17, 3, 1), 1), None),
        (linear("a", 16, 16), None),
        (linear("a", 16, 16, rows=16), None),
        (linear("a", 15, 64), "product"),
        (linear("a", 64, 15), "product"),
        (linear("a", 64, 64, rows=8), "rows"),
        (matmul("a/MatMul", 64, 64), "activations"),
    ],
)
def test_every_rule(layer: QuantizableLayer, rule: str | None) -> None:
    reasons = {rule.name: rule.reason.format(layer=layer) for rule in RULES}
    placement = place([layer])
    if rule is None:
        assert placement.quantized == (layer.name,)
        assert placement.left == {}
    else:
        assert placement.quantized == ()
        assert placement.left == {layer.name: reasons[rule]}
        assert "{" not in reasons[rule]


def test_kinds() -> None:
    assert convolution("a", (8, 1, 3, 3), 8).kind == "depthwise"
    assert convolution("a", (8, 1, 1, 1), 8).kind == "depthwise"
    assert convolution("a", (8, 4, 1, 1), 2) == QuantizableLayer("a", "pointwise", 8, 8, groups=2, kernel=(1, 1))
    assert convolution("a", (8, 1, 3, 3), 1).kind == "conv"
    assert convolution("a", (8, 1, 3, 3), 1).in_channels == 1
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.source for rule in RULES)


def test_keep_wins_and_says_so() -> None:
    layers = [convolution(name, (64, 64, 3, 3), 1) for name in ("latent.0.ffn.in", "latent.1.ffn.in", "latents.0.attn")]
    assert place(layers, keep=["latent.0"]).left == {"latent.0.ffn.in": "asked for: 'latent.0'"}
    assert set(place(layers, keep=["*.ffn"]).left) == {"latent.0.ffn.in", "latent.1.ffn.in"}
    assert place(layers, keep=["latent.?", "latents"]).quantized == ()
    with pytest.raises(UsageError, match=r"'latent.2' covers no layer.*Did you mean 'latent.\d'"):
        place(layers, keep=["latent.2"])
    with pytest.raises(GraphError, match="two layers have one name"):
        place([*layers, layers[0]])


def test_what_a_pattern_covers() -> None:
    assert covers("a.b", "a.b.c")
    assert covers("a.b.c", "a.b.c")
    assert not covers("a.b", "a.bc")
    assert not covers("b", "a.b")
    assert covers("*.b", "a.b.c")
    assert covers("*", "a")


# What stays in higher precision in each micro network, by rule; all other layers are quantised.
BLOCKS = ["encoder_level1.0", "encoder_level2.0", "encoder_level3.0", "latent.0", "decoder_level3.0"]
BLOCKS += ["decoder_level2.0", "decoder_level1.0", "refinement.0"]
ENDS = {"first": ["patch_embed.proj"], "last": ["output"]}
LEFT: dict[str, dict[str, list[str]]] = {
    "exda": {
        **ENDS,
        "tokens": [f"{block}.attn.gst_proj" for block in BLOCKS],
        "groups": ["encoder_level1.0.attn.nlv.dwconv"],
        "channels": [
            "encoder_level1.0.attn.nlv.project_in",
            "encoder_level1.0.attn.nlv.project_out",
            "encoder_level1.0.attn.project_out",
            "down1_2.body.0",
        ],
    },
    "kgt": {
        "first": ["head"],
        "last": ["tail"],
        "channels": ["body.encoder.0.conv", "body.down.0.body.0", "body.decoder.0.conv", "body.final.conv"],
        "product": [
            f"body.{stage}.layers.0.{layer}"
            for stage in ("encoder.0", "decoder.0", "final")
            for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        ],
    },
    "cea": {
        **ENDS,
        "groups": [f"{block}.ffn.dwconv" for block in BLOCKS],
        "channels": ["encoder_level1.0.attn.project_out", "down1_2.body.0"],
        "product": [
            f"adapters.decoder_level{level}.{layer}" for level in (3, 2, 1) for layer in ("routing", "direction")
        ],
    },
}
COUNTS = {"exda": 91, "kgt": 25, "cea": 74}


@pytest.mark.parametrize("architecture", ["exda", "kgt", "cea"])
def test_modules_and_nodes_get_one_answer(architecture: str, micro: Callable[..., Any]) -> None:
    network = micro(architecture)
    of_modules = quantizable_layers(network.loaded.module, torch.from_numpy(network.picture()))
    of_nodes = list(described_nodes(network.graph()))
    with_weights = [layer for layer in of_nodes if layer.kind != "matmul"]
    assert sorted(map(str, with_weights)) == sorted(map(str, of_modules))
    from_modules, from_nodes = place(of_modules), place(of_nodes)
    assert set(from_nodes.quantized) == set(from_modules.quantized)
    assert from_modules.left.items() <= from_nodes.left.items()
    rest = {name for name in from_nodes.left if name not in from_modules.left}
    assert all("/MatMul" in name for name in rest)
    assert len(of_modules) == COUNTS[architecture]

    by_rule: dict[str, list[str]] = {}
    for placed in from_modules.layers:
        if not placed.quantized:
            rule = next(r for r in RULES if r.reason.format(layer=placed.layer) == placed.reason)
            by_rule.setdefault(rule.name, []).append(placed.layer.name)
    assert {rule: sorted(names) for rule, names in by_rule.items()} == {
        rule: sorted(names) for rule, names in LEFT[architecture].items()
    }


def described_nodes(model: ir.Model) -> Iterator[QuantizableLayer]:
    """What a Q/DQ writer would say about a graph: names and weights of its own, nothing of the module."""
    nodes = [node for node in model.graph if node.op_type in ("Conv", "MatMul")]
    weighted = [node for node in nodes if _weight_shape(node) is not None]
    for node in nodes:
        assert node.name is not None
        shape = _weight_shape(node)
        module = module_of(node.name)
        ends = {"is_first": node is weighted[0], "is_last": node is weighted[-1]}
        if shape is None:
            yield matmul(node.name, 0, 0)
        elif node.op_type == "Conv":
            yield convolution(module, shape, node.attributes.get_int("group", 1), **ends)
        else:
            tokens = node.inputs[0]
            assert tokens is not None and tokens.shape is not None
            rows = tokens.shape[-2]
            assert isinstance(rows, int)
            yield linear(module, *shape, rows=rows, **ends)


def _weight_shape(node: ir.Node) -> tuple[int, ...] | None:
    weight = node.inputs[1]
    if weight is None or weight.const_value is None:
        return None
    return tuple(weight.const_value.shape.numpy())
