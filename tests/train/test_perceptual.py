"""Perceptual distances through packages of other people, here small stand-ins: the real ones are not installed.

The wiring was tried once by hand with lpips 0.1.4 and DISTS_pytorch 0.1 on backbones with random weights: equal
pictures have distance 0 within 2e-7, and a batch gives one number per pair. Their published values were not reproduced.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeir.errors import MissingDependency, UsageError
from edgeir.train.perceptual import DISTANCES, perceptual_distance


class LPIPS(nn.Module):
    """Shapes and arguments of lpips 0.1.4."""

    def __init__(self, net: str, verbose: bool) -> None:
        super().__init__()
        assert net == "alex" and not verbose
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, in0: Tensor, in1: Tensor, normalize: bool) -> Tensor:
        assert normalize and not self.training
        return self.gain * (in0 - in1).square().mean((1, 2, 3), keepdim=True)


class DISTS(nn.Module):
    """Shapes of DISTS_pytorch 0.1: no axis is left of a batch of one."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).abs().mean((1, 2, 3)).squeeze()


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stand-ins for both packages; returns the folder where torch keeps downloaded weights, empty."""
    for name, contents in (("lpips", {"LPIPS": LPIPS}), ("DISTS_pytorch", {"DISTS": DISTS})):
        package = ModuleType(name)
        vars(package).update(contents)
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cache = tmp_path / "checkpoints"
    cache.mkdir()
    return cache


@pytest.mark.parametrize(("name", "expected"), [("lpips", [0.16, 1.0]), ("dists", [0.2, 0.5])])
def test_distances(name: str, expected: list[float], packages: Path) -> None:
    (packages / DISTANCES[name].backbone).touch()
    distance = perceptual_distance(name)
    truth = torch.full((2, 3, 8, 8), 0.5)
    output = truth + torch.tensor([0.2, 7.0]).reshape(2, 1, 1, 1)  # clipped to a difference of 0.5
    assert distance(output, truth).tolist() == pytest.approx(expected)
    assert distance(output[:1], truth[:1]).shape == (1,)
    assert not distance(output.requires_grad_(), truth).requires_grad
    for wrong in (truth[:, :2], truth[0], truth[:, :, 1:]):
        with pytest.raises(UsageError, match="cannot be compared"):
            distance(wrong, truth)
        with pytest.raises(UsageError, match="cannot be compared"):
            distance(truth[:0], truth[:0])


@pytest.mark.parametrize("name", ["lpips", "dists"])
def test_nothing_is_fetched_unasked(name: str, packages: Path) -> None:
    with pytest.raises(MissingDependency, match=r"not in torch's cache.* \d+ MB.*allow_download=True"):
        perceptual_distance(name)
    assert perceptual_distance(name, allow_download=True).name == name


@pytest.mark.parametrize(("name", "package"), [("lpips", "lpips"), ("dists", "DISTS_pytorch")])
def test_without_the_package(name: str, package: str, packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=f"{package} cannot be imported.*pip install {package} torchvision"):
        perceptual_distance(name, allow_download=True)


def test_weights_that_cannot_be_read(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("weights.pt")

    monkeypatch.setattr(sys.modules["DISTS_pytorch"], "DISTS", fail)
    with pytest.raises(MissingDependency, match=r"cannot be read or fetched.*weights\.pt"):
        perceptual_distance("dists", allow_download=True)


def test_unknown_name() -> None:
    with pytest.raises(UsageError, match=r"unknown perceptual distance.*Did you mean 'lpips'"):
        perceptual_distance("lpip")
