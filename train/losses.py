"""What training minimises. Every loss takes two ``(N, 3, H, W) float`` tensors and gives a scalar float32."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeir.train.recipe import Loss


def l1(output: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (output - truth).abs().mean()


def charbonnier(output: Tensor, truth: Tensor, *, epsilon: float = 1e-3) -> Tensor:
    """Mean of ``sqrt(d^2 + epsilon^2)``: L1 with a round corner (Lai et al., LapSRN, CVPR 2017, section 3.3)."""
    return torch.sqrt((output - truth).square() + epsilon**2).mean()


def fft_l1(output: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of the real and the imaginary parts of the unnormalised 2-D Fourier transforms.

    Both parts count as entries of the mean (source: MIRAGE and MoCE-IR as described in models.md section 4.6;
    after Cho et al., MIMO-UNet, ICCV 2021, equation 9).
    """
    difference = torch.fft.rfft2(output - truth)  # the transform is linear
    return torch.view_as_real(difference).abs().mean()


def psnr_db(output: Tensor, truth: Tensor, *, ceiling_db: float = 80.0) -> Tensor:
    """Mean over the samples of ``10 log10(MSE + 10^(-ceiling_db / 10))``: minus their PSNR in dB, peak 1.

    Every sample weighs by the decibels it can gain: in a mixture of degradations the strong ones, whose differences are
    ten times as large, do not drown the weak ones (Chen et al., HINet, CVPR workshops 2021; NAFNet, ECCV 2022, use it
    with a ceiling of 80 dB). ``ceiling_db`` is where a sample stops to matter; clean pictures have no other end.
    """
    mean_square = (output - truth).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(mean_square + 10 ** (-ceiling_db / 10)).mean()


def loss_of(settings: Loss, output: Tensor, truth: Tensor) -> Tensor:
    """The loss that ``settings`` describe, computed in float32 whatever the types of the tensors."""
    output, truth = output.float(), truth.float()
    if settings.kind == "charbonnier":
        return charbonnier(output, truth, epsilon=settings.charbonnier_epsilon)
    if settings.kind == "l1+fft":
        return l1(output, truth) + settings.fft_weight * fft_l1(output, truth)
    if settings.kind == "psnr":
        return psnr_db(output, truth, ceiling_db=settings.psnr_ceiling_db)
    if settings.kind == "psnr+l1":
        decibels = psnr_db(output, truth, ceiling_db=settings.psnr_ceiling_db)
        return decibels + settings.l1_weight_db * l1(output, truth)
    return l1(output, truth)
