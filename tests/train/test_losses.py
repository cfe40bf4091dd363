"""The losses against values computed by hand and against PyTorch's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from edgeir.train.losses import charbonnier, fft_l1, l1, loss_of, psnr_db
from edgeir.train.recipe import Loss


def pair(height: int = 6, width: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(2, 3, height, width, generator=generator) for _ in range(2))  # type: ignore[return-value]


def test_l1() -> None:
    assert l1(torch.tensor([1.0, 2, 5]), torch.tensor([1.0, 4, 1])).item() == 2
    torch.testing.assert_close(l1(*pair()), F.l1_loss(*pair()))


def test_charbonnier_by_hand() -> None:
    loss = charbonnier(torch.tensor([3.0, 1.0]), torch.tensor([0.0, 1.0]), epsilon=4)
    assert loss.item() == pytest.approx((5 + 4) / 2)


def test_charbonnier_nears_l1_and_has_a_slope_of_zero_in_the_corner() -> None:
    torch.testing.assert_close(charbonnier(*pair(), epsilon=1e-6), F.l1_loss(*pair()))
    output = torch.zeros(1, 3, 2, 2, requires_grad=True)
    charbonnier(output, torch.zeros_like(output)).backward()
    assert output.grad is not None
    assert output.grad.tolist() == torch.zeros_like(output).tolist()


def test_fft_of_a_constant_is_its_sum_in_one_entry() -> None:
    output, truth = torch.full((1, 1, 4, 6), 0.75), torch.full((1, 1, 4, 6), 0.25)
    # 4 x 4 coefficients of two parts; the constant alone is not zero: 0.5 * 24 pixels.
    assert fft_l1(output, truth).item() == pytest.approx(12 / 32)


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (6, 7)])
def test_fft_is_the_difference_of_the_transforms(size: tuple[int, int]) -> None:
    output, truth = pair(*size)
    one, other = torch.fft.rfft2(output), torch.fft.rfft2(truth)
    parts = torch.stack([(one.real - other.real).abs(), (one.imag - other.imag).abs()])
    torch.testing.assert_close(fft_l1(output, truth), parts.mean(), rtol=1e-5, atol=1e-5)


def test_psnr_is_the_mean_over_samples() -> None:
    truth = torch.zeros(2, 3, 4, 4)
    output = torch.stack([torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), 0.01)])
    assert psnr_db(output, truth).item() == pytest.approx(-(20 + 40) / 2, abs=1e-3)


def test_psnr_ends_at_its_ceiling_and_has_no_slope_there() -> None:
    output = torch.zeros(1, 3, 4, 4, requires_grad=True)
    loss = psnr_db(output, torch.zeros(1, 3, 4, 4), ceiling_db=45)
    loss.backward()
    assert loss.item() == pytest.approx(-45)
    assert output.grad is not None
    assert not output.grad.any()


def test_psnr_gives_weak_and_strong_samples_the_same_pull() -> None:
    """The slope along a sample's own error is the same number of decibels whatever its size."""
    for error in (0.3, 0.03):
        scale = torch.ones((), requires_grad=True)
        psnr_db(scale * torch.full((1, 3, 4, 4), error), torch.zeros(1, 3, 4, 4)).backward()
        assert scale.grad is not None
        assert scale.grad.item() == pytest.approx(20 / math.log(10), rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Loss(), lambda o, t: F.l1_loss(o, t)),
        (Loss(kind="charbonnier"), lambda o, t: charbonnier(o, t, epsilon=1e-3)),
        (Loss(kind="charbonnier", charbonnier_epsilon=0.5), lambda o, t: charbonnier(o, t, epsilon=0.5)),
        (Loss(kind="l1+fft"), lambda o, t: l1(o, t) + 0.1 * fft_l1(o, t)),
        (Loss(kind="l1+fft", fft_weight=2), lambda o, t: l1(o, t) + 2 * fft_l1(o, t)),
        (Loss(kind="l1+fft", fft_weight=0), lambda o, t: F.l1_loss(o, t)),
        (Loss(kind="psnr"), lambda o, t: psnr_db(o, t, ceiling_db=80)),
        (Loss(kind="psnr", psnr_ceiling_db=30), lambda o, t: psnr_db(o, t, ceiling_db=30)),
        (Loss(kind="psnr+l1"), lambda o, t: psnr_db(o, t, ceiling_db=80) + 50 * F.l1_loss(o, t)),
        (Loss(kind="psnr+l1", l1_weight_db=0), lambda o, t: psnr_db(o, t, ceiling_db=80)),
    ],
)
def test_settings(settings: Loss, expected) -> None:  # type: ignore[no-untyped-def]
    output, truth = pair()
    torch.testing.assert_close(loss_of(settings, output, truth), expected(output, truth))


@pytest.mark.parametrize("kind", ["l1", "charbonnier", "l1+fft"])
def test_half_precision_is_compared_in_single(kind: str) -> None:
    output, truth = pair()
    half = output.bfloat16().requires_grad_()
    loss = loss_of(Loss(kind=kind), half, truth)  # type: ignore[arg-type]
    assert (loss.dtype, loss.shape) == (torch.float32, ())
    torch.testing.assert_close(loss, loss_of(Loss(kind=kind), half.float(), truth))  # type: ignore[arg-type]
    loss.backward()
    assert half.grad is not None
    assert math.isfinite(half.grad.float().sum().item())


@pytest.mark.parametrize("kind", ["l1", "l1+fft"])
def test_equal_pictures_lose_nothing(kind: str) -> None:
    output, _ = pair()
    assert loss_of(Loss(kind=kind), output, output).item() == 0  # type: ignore[arg-type]
