"""The learning rate of every step, as a function of the step alone: nothing to save, nothing to get out of step."""

from __future__ import annotations

import math

from edgeir.train.recipe import Optimiser


def learning_rate(settings: Optimiser, step: int, steps: int) -> float:
    """The rate of optimiser step ``step`` (0 to ``steps - 1``); above zero in every step unless ``final_rate`` is 0.

    The cosine (Loshchilov and Hutter, SGDR, 2017, equation 5, without restarts) reaches ``final_rate`` in the very
    last step.
    """
    highest = settings.learning_rate
    if step < settings.warmup_steps:
        return highest * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return highest
    if settings.schedule == "multistep":
        return float(highest * settings.gamma ** sum(step >= milestone for milestone in settings.milestones))
    first = settings.warmup_steps + settings.hold_steps
    if step < first:
        return highest
    share = (step - first + 1) / (steps - first)
    return settings.final_rate + (highest - settings.final_rate) * (1 + math.cos(math.pi * share)) / 2
