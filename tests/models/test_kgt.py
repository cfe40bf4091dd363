"""KGT: mask form equals gather form, the graph is what it says, and the settings are checked."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgeir.errors import UsageError
from edgeir.models.build import build
from edgeir.models.kgt import KGT
from edgeir.models.kgt_config import KGTConfig
from edgeir.models.kgt_layers import PositionBias, gather_attention, relative_positions
from edgeir.models.kgt_stage import KGTStage, picture_from_windows, windows_from_picture
from edgeir.models.network import TwoForms

Randomise = Callable[[nn.Module, int], nn.Module]
U = {"dim": 8, "layers": [1, 1, 1, 1], "heads": [1, 2], "windows": [8, 4], "k": 12, "cpb_hidden": 16}
COLUMNAR = {
    "layout": "columnar",
    "dim": 12,
    "layers": [2, 2],
    "heads": [3],
    "windows": [8],
    "k": 20,
    "cpb_hidden": 16,
}


@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
@pytest.mark.parametrize(
    "config",
    [U, {**U, "keep_self": True}, {**U, "norm": "pre"}, COLUMNAR, {**COLUMNAR, "scale": 3}],
    ids=["u", "keep-self", "pre-norm", "columnar", "x3"],
)
def test_mask_and_gather_agree(config: dict[str, object], size: tuple[int, int], trained_like: Randomise) -> None:
    network = build("kgt", config).double().eval()
    trained_like(network, 5)
    image = torch.rand(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        mask = network(image)
        network.set_form("reference")
        gather = network(image)
    scale = int(config.get("scale", 1))  # type: ignore[call-overload]
    assert mask.shape == (2, 3, size[0] * scale, size[1] * scale)
    assert (mask - gather).abs().max() <= 1e-10 * gather.abs().max()


def test_k_equal_n_is_dense_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 9, 4, dtype=torch.float64, generator=generator) for _ in range(3))
    bias = torch.randn(3, 9, 9, dtype=torch.float64, generator=generator)
    scale = torch.full((3, 1, 1), 5.0, dtype=torch.float64)
    everyone = torch.rand(2, 9, 9, generator=generator).argsort(-1)
    got = gather_attention(query, key, value, everyone, bias, scale, self_last=False)
    cosine = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
    assert torch.allclose(got, (cosine * scale + bias).softmax(-1) @ value, rtol=1e-12, atol=1e-14)


def test_windows_gathered_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(5, 3, 9, 4, dtype=torch.float64, generator=generator) for _ in range(3))
    bias = torch.randn(3, 9, 9, dtype=torch.float64, generator=generator)
    scale = torch.full((3, 1, 1), 5.0, dtype=torch.float64)
    neighbours = torch.rand(5, 9, 9, generator=generator).argsort(-1)[..., :4]
    whole = gather_attention(query, key, value, neighbours, bias, scale, self_last=True)
    monkeypatch.setattr("edgeir.models.kgt_layers._GATHERED_VALUES", 2 * 3 * 9 * 4 * 4)  # two windows at a time
    with torch.no_grad():
        blocks = gather_attention(query, key, value, neighbours, bias, scale, self_last=True)
    assert torch.allclose(blocks, whole, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("form", ["fast", "reference"])
def test_graph_keeps_the_k_largest_products(form: str) -> None:
    stage = _stage()
    stage.form = form  # type: ignore[assignment]
    tokens = torch.randn(3, 16, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    graph = stage.key_graph(tokens, 5)
    products = torch.einsum("wic,wjc->wij", tokens, tokens)
    wanted = products.argsort(-1, descending=True)[..., :5].sort(-1).values
    kept = graph.nonzero()[:, 2].reshape(3, 16, 5) if form == "fast" else graph.sort(-1).values
    assert torch.equal(kept, wanted)
    assert stage.key_graph(tokens, 1000).shape[:2] == (3, 16)


def test_keep_self_sets_the_diagonal() -> None:
    stage = _stage(keep_self=True)
    tokens = torch.randn(1, 16, 4, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.1, 4, 16)[:, None]
    assert not _stage().key_graph(tokens, 2).diagonal(dim1=1, dim2=2).all()
    assert stage.key_graph(tokens, 2).diagonal(dim1=1, dim2=2).all()


def test_graph_is_built_once_per_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    build_graph = KGTStage.key_graph

    def counted(self: KGTStage, tokens: torch.Tensor, k: int) -> torch.Tensor:
        calls.append(k)
        return build_graph(self, tokens, k)

    monkeypatch.setattr(KGTStage, "key_graph", counted)
    build("kgt", COLUMNAR).eval()(torch.rand(1, 3, 8, 8))
    assert calls == [20, 20]


def test_windows_round_trip() -> None:
    x = torch.arange(2 * 3 * 8 * 12, dtype=torch.float32).reshape(2, 3, 8, 12)
    tokens = windows_from_picture(x, 4)
    assert tokens.shape == (12, 16, 3)
    assert torch.equal(tokens[1, 5], x[0, :, 1, 5])
    assert torch.equal(picture_from_windows(tokens, 4, x.shape), x)


def test_stage_leaves_a_picture_in_place_when_it_shifts() -> None:
    """With the layers silent, only the conv remains: rolling there and back must cancel."""
    plain, shifted = _stage(), _stage(shift=2)
    shifted.load_state_dict(plain.state_dict())
    for stage in (plain, shifted):
        for norm in (stage.layers[0].norm1, stage.layers[0].norm2):
            nn.init.zeros_(norm.weight)
    x = torch.rand(1, 4, 8, 12)
    assert torch.equal(plain(x, 3), shifted(x, 3))


def test_only_odd_columnar_stages_shift() -> None:
    network = build("kgt", {**COLUMNAR, "layers": [1, 1, 1]}, device="meta")
    assert [stage.shift for stage in network.body.stages] == [0, 4, 0]  # type: ignore[union-attr]


def test_relative_positions() -> None:
    coords, index = relative_positions(3)
    assert coords.shape == (25, 2)
    assert index.shape == (9, 9)
    assert torch.equal(coords[index[4, 4]], torch.zeros(2))
    limit = math.log2(9) / 3
    assert torch.allclose(coords[index[8, 0]], torch.tensor([limit, limit]))
    assert torch.allclose(coords[index[0, 2]], torch.tensor([0.0, -limit]))


def test_folded_bias_gives_the_same_output_and_is_dropped_in_time(trained_like: Randomise) -> None:
    network = build("kgt", U).eval()
    assert isinstance(network, KGT)
    trained_like(network, 1)
    image = torch.rand(1, 3, 16, 16)
    names = set(network.state_dict())
    with torch.no_grad():
        before = network(image)
        network.fold_position_bias()
        assert torch.equal(network(image), before)
    biases = [module for module in network.modules() if isinstance(module, PositionBias)]
    assert [tuple(bias.folded.shape) for bias in biases][:2] == [(1, 64, 64), (2, 16, 16)]  # type: ignore[union-attr]
    assert set(network.state_dict()) == names
    network.train()(image).mean().backward()
    assert biases[0].cpb_mlp[0].weight.grad is not None
    network.load_state_dict(network.state_dict())
    assert all(bias.folded is None for bias in biases)


def test_training_draws_one_k_per_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build("kgt", {**U, "k_choices": [4, 8, 16]})
    passes: list[set[int]] = []
    build_graph = KGTStage.key_graph

    def noted(self: KGTStage, tokens: torch.Tensor, k: int) -> torch.Tensor:
        passes[-1].add(k)
        return build_graph(self, tokens, k)

    monkeypatch.setattr(KGTStage, "key_graph", noted)
    image = torch.rand(1, 3, 8, 8)
    torch.manual_seed(0)
    for _ in range(30):
        passes.append(set())
        network.train()(image)
    assert all(len(drawn) == 1 for drawn in passes)
    assert set().union(*passes) == {4, 8, 16}
    passes.append(set())
    network.eval()(image)
    assert passes[-1] == {12}


@pytest.mark.parametrize("config", [U, {**COLUMNAR, "scale": 2}], ids=["u", "columnar"])
def test_every_parameter_gets_a_gradient(config: dict[str, object]) -> None:
    network = build("kgt", config).train()
    network(torch.rand(1, 3, 16, 16)).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []


@pytest.mark.parametrize("form", ["fast", "reference"])
def test_stage_exports_with_dynamic_height_and_width(form: str) -> None:
    stage = _stage(shift=2).eval()
    for module in stage.modules():
        if isinstance(module, TwoForms):
            module.form = form  # type: ignore[assignment]
    height, width = (torch.export.Dim(name, min=2, max=64) for name in ("h4", "w4"))
    shapes = ({2: 4 * height, 3: 4 * width}, None)
    program = torch.export.export(stage, (torch.rand(1, 4, 8, 12), 3), dynamic_shapes=shapes)
    x = torch.rand(1, 4, 16, 8)
    with torch.no_grad():
        assert torch.allclose(program.module()(x, 3), stage(x, 3), atol=1e-6)


def test_size_rules() -> None:
    assert KGTConfig().size_rule.multiple == 64
    assert KGTConfig(**{**U, "layers": (1, 1, 1, 1), "heads": (1, 2), "windows": (6, 4)}).size_rule.multiple == 24  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({**U, "windows": [8]}, "as many numbers as heads"),
        ({**U, "layers": [1, 1]}, "4 numbers for 2 levels"),
        ({**U, "heads": [3, 2]}, "a divisor of 8"),
        ({**U, "k": 0}, "setting 'k'"),
        ({**U, "k_choices": []}, "k_choices"),
        ({**U, "scale": 2}, "1 for the U layout"),
        ({**U, "layout": "colunmar"}, "Did you mean 'columnar'"),
        ({**COLUMNAR, "heads": [1, 2], "windows": [4, 4]}, "columnar layout"),
        ({**COLUMNAR, "scale": 5}, "1, 2, 3 or 4"),
        ({**COLUMNAR, "window": 8}, "Did you mean 'windows'"),
    ],
)
def test_config_errors(config: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        build("kgt", config)


def _stage(*, shift: int = 0, keep_self: bool = False) -> KGTStage:
    return KGTStage(
        4, 2, layers=1, window=4, shift=shift, mlp_ratio=2.0, cpb_hidden=8, keep_self=keep_self, post_norm=True
    )
