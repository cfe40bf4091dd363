"""Distillation: the teacher stays as it was, and the term is what it says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeir.errors import UsageError
from edgeir.train.distillation import Distillation, frozen_copy


def test_the_teacher_is_frozen() -> None:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout(0.5)).train()
    teacher = frozen_copy(student)
    assert student.training and all(parameter.requires_grad for parameter in student.parameters())
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())
    x = torch.rand(1, 3, 4, 4)
    before = teacher(x)
    with torch.no_grad():
        student[0].weight.add_(1)
    assert torch.equal(teacher(x), before)


def test_the_term_by_hand() -> None:
    teacher = frozen_copy(nn.Identity())
    degraded = torch.zeros(1, 3, 1, 2)
    output = torch.tensor([1.0, -2.0, 3.0, 0.5, -0.5, 0.0]).reshape(1, 3, 1, 2).requires_grad_()
    loss = Distillation(teacher, 0.5)(output, degraded)
    assert float(loss.detach()) == pytest.approx(0.5 * 7 / 6)
    loss.backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    assert torch.allclose(output.grad.flatten(), 0.5 / 6 * torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 0.0]))


@pytest.mark.parametrize("weight", [-0.1, float("nan")])
def test_a_negative_weight_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="weight is negative"):
        Distillation(nn.Identity(), weight)
