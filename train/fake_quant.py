"""Quantisation-aware training: INT8 rounding of weights and activations in the forward pass, floats everywhere else.

    layers = quantizable_layers(network, example)            what could run in INT8
    insert_fake_quant(network, place(layers, keep=[...]))    what will (`edgeir.quantization_placement`)
    ...train...                                              ranges are learned, then weights adapt to the rounding
    ranges = activation_ranges(network)                      name -> amax, for the bundle's ranges.json
    remove_fake_quant(network)                               the plain network with its new weights

Nothing of this shows in a checkpoint: layers keep their identity, parameters and names, and ranges are buffers that are
not part of the state dict. A run that goes on from a checkpoint gives the ranges back with `set_activation_ranges`.

Ranges: a weight's range is the absolute maximum of each output channel, taken anew at every step, with no gradient of
its own. An activation's range is one number per layer: the 99.99th percentile of its absolute values, the widest over
the pictures of `observe_ranges` or the moving average over the first training steps, then frozen. The percentile leaves
out the few outliers that would cost all other values their resolution (Wu et al. 2020, "Integer quantization for deep
learning inference", arXiv 2004.09602); freezing lets the weights settle on one grid, which is the grid that the graph
gets. Ranges learned by gradient descent (LSQ) would be parameters, and tensors that feed several layers would get
several ranges where a graph has one Q/DQ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from edgeir.errors import UsageError, nearest
from edgeir.precision import ROOT_MODULE
from edgeir.quantization_placement import QMAX, QMIN, SMALLEST_SCALE, Placement, QuantizableLayer, convolution, linear


@dataclass(frozen=True, slots=True)
class FakeQuantSettings:
    """How activation ranges are found.

    Attributes:
        percentile: of an activation's absolute values, in (0, 100]; 100 is the maximum.
        momentum: weight of the past in the moving average, in [0, 1).
        observe_steps: forward passes in training mode after which ranges are frozen; 0 leaves them as
            `observe_ranges` or `set_activation_ranges` made them.

    Raises:
        UsageError: a value is out of range.
    """

    percentile: float = 99.99
    momentum: float = 0.9
    observe_steps: int = 200

    def __post_init__(self) -> None:
        for name, good, expected in (
            ("percentile", 0 < self.percentile <= 100, "in (0, 100]"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("observe_steps", self.observe_steps >= 0, ">= 0"),
        ):
            if not good:
                raise UsageError(
                    f"{name} is out of range",
                    where="fake quantisation",
                    expected=expected,
                    got=str(getattr(self, name)),
                )


class _RoundStraightThrough(torch.autograd.Function):
    """``clamp(round_half_even(x / scale)) * scale``; the gradient is 1 inside the range and 0 where it clamped.

    `torch.fake_quantize_per_tensor_affine` multiplies by 1/scale, which rounds some ties the other way; graphs divide.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        steps = torch.round(x / scale)
        ctx.save_for_backward((steps >= QMIN) & (steps <= QMAX))
        return steps.clamp_(QMIN, QMAX).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None


def fake_quantize(x: Tensor, scale: Tensor) -> Tensor:
    """Round ``x`` to the INT8 grid of ``scale``: computed in float32 at least, in the type of ``x`` again after.

    Args:
        x: any shape, floating.
        scale: positive, broadcasts to ``x``; gets no gradient.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    rounded: Tensor = _RoundStraightThrough.apply(wide, scale.to(wide.dtype))  # type: ignore[no-untyped-call]
    return rounded.to(x.dtype)


def fake_quantize_weight(weight: Tensor) -> Tensor:
    """`fake_quantize` of a weight per output channel (axis 0), each with its own absolute maximum as the range."""
    amax = weight.detach().abs().flatten(1).amax(dim=1)
    scale = (amax.to(torch.promote_types(amax.dtype, torch.float32)) / QMAX).clamp_min(SMALLEST_SCALE)
    return fake_quantize(weight, scale.reshape(-1, *[1] * (weight.ndim - 1)))


class InputRange(nn.Module):
    """Fake quantisation of one layer's input, and the range it uses.

    Attributes:
        amax: ``() float32``, 0 until a range was observed or set; not part of the state dict.
        steps_left: forward passes in training mode that still move the range.
        observing: widen the range to what passes, and let it pass as it is; see `observe_ranges`.
    """

    amax: Tensor

    def __init__(self, settings: FakeQuantSettings, *, device: torch.device) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("amax", torch.zeros((), dtype=torch.float32, device=device), persistent=False)
        self.known = False
        self.steps_left = settings.observe_steps
        self.observing = False

    def forward(self, x: Tensor) -> Tensor:
        """``x`` on the INT8 grid, same shape and type."""
        if self.observing:
            amax = self._amax_of(x.detach())
            self.amax.copy_(torch.maximum(amax, self.amax) if self.known else amax)
            self.known = True
            return x
        if self.training and self.steps_left > 0:
            amax = self._amax_of(x.detach())
            self.amax.copy_(torch.lerp(amax, self.amax, self.settings.momentum) if self.known else amax)
            self.known = True
            self.steps_left -= 1
        if not self.known:
            raise UsageError(
                "an activation has no range yet",
                where="fake quantisation",
                fix="Run observe_ranges with some pictures, or train with observe_steps above 0.",
            )
        return fake_quantize(x, (self.amax / QMAX).clamp_min(SMALLEST_SCALE))

    def set(self, amax: float) -> None:
        """Use this range from now on."""
        self.amax.fill_(amax)
        self.known, self.steps_left = True, 0

    def _amax_of(self, x: Tensor) -> Tensor:
        magnitudes = x.abs().flatten().to(self.amax.dtype)
        rank = max(1, math.ceil(magnitudes.numel() * self.settings.percentile / 100))
        return magnitudes.kthvalue(rank).values


class _FakeQuantConv2d(nn.Conv2d):
    input_range: InputRange

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._conv_forward(self.input_range(x), fake_quantize_weight(self.weight), self.bias)
        return out


class _FakeQuantLinear(nn.Linear):
    input_range: InputRange

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.input_range(x), fake_quantize_weight(self.weight), self.bias)


# A layer changes its class, as torch's own parametrisations do: it stays the same object with the same parameters, so
# that optimisers, hooks, and modules that hold it twice keep working.
_QUANTIZED_CLASS: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: _FakeQuantConv2d, nn.Linear: _FakeQuantLinear}
_FLOATING_CLASS: dict[type[nn.Module], type[nn.Module]] = {
    quantized: floating for floating, quantized in _QUANTIZED_CLASS.items()
}


def quantizable_layers(network: nn.Module, example: Tensor) -> list[QuantizableLayer]:
    """Describe the `nn.Conv2d` and `nn.Linear` layers of a network in the order in which they run.

    Layers whose input does not depend on the picture are left out, as are those that do not run in evaluation mode:
    both are constants of an exported graph, or not in it. Other kinds of layers are never quantised.

    Args:
        network: a network without fake quantisation; left as it is.
        example: ``(N, 3, H, W)``, a picture of a size the network takes; its values do not matter.
    """
    layers = {
        module: name or ROOT_MODULE for name, module in network.named_modules() if type(module) in _QUANTIZED_CLASS
    }
    runs: list[nn.Module] = []
    rows: dict[nn.Module, int] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].requires_grad:  # only the picture requires a gradient
            runs.append(module)
            rows.setdefault(module, inputs[0].shape[-2])

    hooks = [module.register_forward_pre_hook(note) for module in layers]
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        constants = {name: parameter.detach() for name, parameter in network.named_parameters()}
        with torch.enable_grad():
            functional_call(network, constants, (example.detach().clone().requires_grad_(),))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    found = []
    for module in dict.fromkeys(runs):
        first, last = module is runs[0], module is runs[-1]
        if isinstance(module, nn.Conv2d):
            found.append(convolution(layers[module], module.weight.shape, module.groups, is_first=first, is_last=last))
        elif isinstance(module, nn.Linear):
            sides = (module.in_features, module.out_features)
            found.append(linear(layers[module], *sides, rows=rows[module], is_first=first, is_last=last))
    return found


def insert_fake_quant(network: nn.Module, placement: Placement, settings: FakeQuantSettings | None = None) -> None:
    """Quantise input and weight of the layers that the placement names, in place; no parameter changes.

    Args:
        network: a network without fake quantisation.
        placement: from `edgeir.quantization_placement.place`.
        settings: how ranges are found.

    Raises:
        UsageError: the network is quantised already, or has no such layer.
    """
    if is_fake_quantized(network):
        raise UsageError(
            "the network is fake-quantised already", where="fake quantisation", fix="Call remove_fake_quant first."
        )
    layers = {name or ROOT_MODULE: layer for name, layer in network.named_modules() if type(layer) in _QUANTIZED_CLASS}
    for name in placement.quantized:
        if name not in layers:
            raise UsageError(
                f"the network has no convolution or linear layer '{name}'",
                where="fake quantisation",
                fix=nearest(name, layers),
            )
    for name in placement.quantized:
        layer = layers[name]
        layer.__class__ = _QUANTIZED_CLASS[type(layer)]
        weight = layer.weight
        assert isinstance(weight, Tensor)
        layer.add_module("input_range", InputRange(settings or FakeQuantSettings(), device=weight.device))
        layer.train(layer.training)


def remove_fake_quant(network: nn.Module) -> None:
    """Take all fake quantisation out, in place: the plain network with its present weights; a no-op on a plain one."""
    for _, layer in list(_quantized_layers(network)):
        del layer.input_range
        plain: nn.Module = layer
        plain.__class__ = _FLOATING_CLASS[type(layer)]


def is_fake_quantized(network: nn.Module) -> bool:
    """Whether any layer of the network is fake-quantised."""
    return any(True for _ in _quantized_layers(network))


def activation_ranges(network: nn.Module) -> dict[str, float]:
    """Layer name to amax of its input, in the order of the modules; the scale is ``amax / 127``.

    Raises:
        UsageError: a layer has no range yet.
    """
    ranges = {}
    for name, layer in _quantized_layers(network):
        if not layer.input_range.known:
            raise UsageError(
                f"the input of layer '{name}' has no range yet",
                where="fake quantisation",
                fix="Run observe_ranges with some pictures.",
            )
        ranges[name] = float(layer.input_range.amax)
    return ranges


def set_activation_ranges(network: nn.Module, ranges: Mapping[str, float]) -> None:
    """Use these ranges (layer name to amax) from now on, and freeze them.

    Raises:
        UsageError: the names are not those of the quantised layers, or a range is negative or not finite.
    """
    layers = dict(_quantized_layers(network))
    for name in ranges:
        if name not in layers:
            raise UsageError(f"no quantised layer '{name}'", where="activation ranges", fix=nearest(name, layers))
    for name, layer in layers.items():
        amax = ranges.get(name, math.nan)
        if not 0 <= amax < math.inf:
            raise UsageError(
                f"the range of layer '{name}' is missing or wrong",
                where="activation ranges",
                expected="a number >= 0",
                got=str(ranges.get(name)),
            )
        layer.input_range.set(amax)


@torch.no_grad()
def observe_ranges(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Run the network in evaluation mode on pictures; ranges become the widest that any batch asks for.

    Activations are not rounded meanwhile, so that a range does not depend on those in front of it. An average over
    pictures would clip the activations of half of them: dark and bright pictures differ by more than rounding costs.

    Args:
        network: fake-quantised; its mode is kept, and so is the number of training steps that still observe.
        batches: ``(N, 3, H, W)`` each, on the network's device.
    """
    inputs = [layer.input_range for _, layer in _quantized_layers(network)]
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        for each in inputs:
            each.observing = True
        for batch in batches:
            network(batch)
    finally:
        for each in inputs:
            each.observing = False
        for module, mode in modes.items():
            module.training = mode


def freeze_ranges(network: nn.Module) -> None:
    """Keep the ranges as they are from now on."""
    for _, layer in _quantized_layers(network):
        layer.input_range.steps_left = 0


def _quantized_layers(network: nn.Module) -> Iterator[tuple[str, _FakeQuantConv2d | _FakeQuantLinear]]:
    for name, module in network.named_modules():
        if isinstance(module, (_FakeQuantConv2d, _FakeQuantLinear)):
            yield name or ROOT_MODULE, module
