"""Perceptual distances between pictures, LPIPS and DISTS, by their authors' own packages where those are installed.

| name  | package       | backbone        | source                                                   |
|-------|---------------|-----------------|----------------------------------------------------------|
| lpips | lpips         | AlexNet, 233 MB | Zhang et al., CVPR 2018; the backbone its authors advise |
| dists | DISTS_pytorch | VGG-16, 528 MB  | Ding et al., TPAMI 2020                                  |

Neither package is a dependency of edgeir: they need torchvision, and ImageNet weights that come from a server. Nothing
is fetched unless the caller says so. Both distances are 0 for equal pictures and grow with the difference.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeir.errors import MissingDependency, UsageError, nearest


@dataclass(frozen=True, slots=True)
class _Distance:
    """How one distance is made and called.

    Attributes:
        package: the module to import.
        install: arguments of ``pip install``.
        backbone: file of torchvision's weights in the cache of `torch.hub`.
        megabytes: its size.
        make: imported package to network.
        call: network, output and truth to ``(N,)`` in some shape.
    """

    package: str
    install: str
    backbone: str
    megabytes: int
    make: Callable[[Any], nn.Module]
    call: Callable[[nn.Module, Tensor, Tensor], Tensor]


DISTANCES = {
    "lpips": _Distance(
        "lpips",
        "lpips torchvision",
        "alexnet-owt-7be5be79.pth",
        233,
        lambda package: package.LPIPS(net="alex", verbose=False),
        lambda network, output, truth: network(output, truth, normalize=True),  # it wants [-1, 1]
    ),
    "dists": _Distance(
        "DISTS_pytorch",
        "DISTS_pytorch torchvision",
        "vgg16-397923af.pth",
        528,
        lambda package: package.DISTS(),
        lambda network, output, truth: network(output, truth),
    ),
}


class PerceptualDistance:
    """A distance that is ready to use; make it with `perceptual_distance`.

    Attributes:
        name: key of `DISTANCES`.
    """

    def __init__(self, name: str, network: nn.Module) -> None:
        self.name = name
        self._network = network

    @torch.no_grad()
    def __call__(self, output: Tensor, truth: Tensor) -> Tensor:
        """The distance of each pair of pictures, ``(N,) float32``, smaller is more alike.

        Args:
            output: ``(N, 3, H, W)`` RGB, clipped to [0, 1], on the device of the distance.
            truth: the same shape.

        Raises:
            UsageError: the shapes differ, or are not those of RGB pictures.
        """
        if output.shape != truth.shape or output.ndim != 4 or output.shape[1] != 3 or output.numel() == 0:
            raise UsageError(
                "the pictures cannot be compared",
                where=self.name,
                expected="two tensors (N, 3, H, W) of one shape, not empty",
                got=f"{tuple(output.shape)} and {tuple(truth.shape)}",
            )
        pair = (output.float().clamp(0, 1), truth.float().clamp(0, 1))
        return DISTANCES[self.name].call(self._network, *pair).reshape(len(output)).float()


def perceptual_distance(
    name: str, *, device: str | torch.device = "cpu", allow_download: bool = False
) -> PerceptualDistance:
    """The distance ``name`` on ``device``, in evaluation mode.

    Args:
        name: key of `DISTANCES`.
        device: where pictures will be.
        allow_download: let torchvision fetch the weights of the backbone where they are not in torch's cache yet.

    Raises:
        UsageError: unknown name.
        MissingDependency: a package is not installed or cannot be imported, or weights are not here.
    """
    if name not in DISTANCES:
        raise UsageError(
            "unknown perceptual distance", expected=" or ".join(DISTANCES), got=repr(name), fix=nearest(name, DISTANCES)
        )
    distance = DISTANCES[name]
    install = f"pip install {distance.install}"
    try:
        package = importlib.import_module(distance.package)
    except (ImportError, RuntimeError) as error:  # torchvision raises RuntimeError when built for another torch
        raise MissingDependency(
            f"{distance.package} cannot be imported", where=name, got=str(error), fix=f"Run: {install}"
        ) from error
    cached = Path(torch.hub.get_dir()) / "checkpoints" / distance.backbone
    if not allow_download and not cached.is_file():
        raise MissingDependency(
            f"the backbone's weights are not in torch's cache, {distance.backbone}, {distance.megabytes} MB",
            where=name,
            fix="Allow the download (allow_download=True; torchvision fetches them from download.pytorch.org), "
            "or put the file into the folder checkpoints of torch.hub.get_dir() yourself.",
        )
    try:
        network = distance.make(package)
    except OSError as error:
        raise MissingDependency(
            "the weights cannot be read or fetched", where=name, got=str(error), fix=f"Run: {install}"
        ) from error
    return PerceptualDistance(name, network.to(device).eval())
