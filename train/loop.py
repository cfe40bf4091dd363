"""The training loop.

A run is a function of its recipe: every random number comes from the recipe's seed and the number of the step or the
sample, so a run that was stopped and resumed, or shared among processes, computes what an undisturbed one computes
(bit for bit on one CPU; to rounding among several processes).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from edgeir.errors import CheckFailed
from edgeir.models.build import LoadedModel
from edgeir.models.checkpoint import save_checkpoint
from edgeir.spec import ModelSpec, WeightsSpec
from edgeir.train.data import Batch, Shares, TrainingSet, batches
from edgeir.train.distributed import Group
from edgeir.train.ema import MovingAverage
from edgeir.train.losses import loss_of
from edgeir.train.quantised import Quantised
from edgeir.train.recipe import Recipe, Stage
from edgeir.train.schedule import learning_rate
from edgeir.train.state import BEST, LATEST, TrainingState, load_state, save_state

_LARGE_PRIME = 2_147_483_629


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known after a step.

    Attributes:
        step: steps done, of ``steps``.
        steps: steps of the recipe.
        loss: of this step, mean over the processes.
        psnr_db: of this step's patches, output clipped to [0, 1].
        gradient_norm: before clipping.
        learning_rate: of this step.
        pictures_per_second: patches, over all processes, since the run or its resumption began.
        seconds_left: at that pace, counted in pixels: later stages have larger patches.
    """

    step: int
    steps: int
    loss: float
    psnr_db: float
    gradient_norm: float
    learning_rate: float
    pictures_per_second: float
    seconds_left: float


class Watcher(Protocol):
    """Whoever shows what happens; called in the first process only."""

    def stepped(self, progress: Progress) -> None:
        """After every optimiser step."""

    def saved(self, step: int) -> None:
        """After the state and the weights are on the disk."""

    def validated(self, step: int, psnr_db: dict[str, float]) -> None:
        """After a validation: mean PSNR per condition, dB."""


class Validator(Protocol):
    """Measures a network on held-out pictures: mean PSNR per condition, dB."""

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Measure; the network's mode is kept."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: steps done, whether all of them were, seconds trained in all sessions, best PSNR or ``None``."""

    step: int
    finished: bool
    seconds: float
    best_db: float | None


class Trainer:
    """One run of one recipe in one process of its group.

    Args:
        recipe: checked.
        loaded: the network with its first weights.
        samples: where patches come from.
        group: the processes of the run.
        folder: where state and weights go; exists.
        watcher: shown what happens.
        validator: measures on held-out pictures; ``None`` if the recipe has none.
        should_stop: asked after every step; true ends the run with its state saved.
    """

    def __init__(
        self,
        recipe: Recipe,
        loaded: LoadedModel,
        samples: TrainingSet,
        group: Group,
        folder: Path,
        *,
        watcher: Watcher,
        validator: Validator | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.recipe = recipe
        self.spec = loaded.spec
        self.samples = samples
        self.group = group
        self.folder = folder
        self.watcher = watcher
        self.validator = validator
        self.should_stop = should_stop
        layout = torch.channels_last
        self.network: nn.Module = loaded.module.to(group.device, memory_format=layout).train()  # type: ignore[call-overload]
        self.quantised = None if recipe.qat is None else Quantised(self.network, recipe.qat, loaded.spec)
        self.optimiser = torch.optim.AdamW(_decay_groups(self.network, recipe), lr=recipe.optimiser.learning_rate)
        self.average = None if recipe.ema_decay is None else MovingAverage(self.network, recipe.ema_decay)
        self.step = 0
        self.best_db: float | None = None
        self._seconds_before = 0.0
        self._started = time.perf_counter()

    def resume(self) -> None:
        """Go on where the run in the folder stopped.

        Raises:
            UsageError: there is none, or another recipe wrote it.
            CheckpointError: its state is damaged.
        """
        state = load_state(self.folder, recipe_digest=self.recipe.digest())
        self.network.load_state_dict(state.network)
        self.optimiser.load_state_dict(state.optimiser)
        if self.average is not None and state.average is not None:
            self.average.load_state_dict(state.average)
        if self.quantised is not None:
            self.quantised.load_ranges(state.ranges)
        self.step, self.best_db, self._seconds_before = state.step, state.best_db, state.seconds

    def run(self) -> Outcome:
        """Train to the end of the recipe, or until asked to stop.

        Raises:
            CheckFailed: the loss or a gradient is no longer a number; the files of the last save stay.
            OutputError: the folder cannot be written to.
        """
        self._started = last_save = time.perf_counter()
        first, pixels_before = self.step, self._pixels(self.step)
        if self.quantised is not None and self.step == 0:
            self.quantised.observe(self.samples, self.recipe)
        forward = self._parallel()
        source = batches(self.samples, self._shares(), workers=self.recipe.workers)
        saving, saved_step = self.recipe.saving, -1
        stopped = False
        while self.step < self.recipe.steps and not stopped:
            loss, psnr_db, norm, rate = self._step(forward, source)
            self.step += 1
            elapsed = time.perf_counter() - self._started
            if self.group.first:
                done = self._pixels(self.step) - pixels_before
                left = self._pixels(self.recipe.steps) - self._pixels(self.step)
                speed = self._patches(self.step) - self._patches(first)
                self.watcher.stepped(
                    Progress(
                        self.step,
                        self.recipe.steps,
                        loss,
                        psnr_db,
                        norm,
                        rate,
                        speed / elapsed,
                        elapsed * left / done,
                    )
                )
            if self.validator is not None and self._validation_is_due():
                self._validate(self.validator)
            now = time.perf_counter()
            due = self.step % saving.every_steps == 0 or now - last_save >= saving.every_seconds
            if self.group.first and due and self.step < self.recipe.steps:
                self._save()
                last_save, saved_step = now, self.step
            stopped = self.group.any(self.should_stop())
        if self.group.first and saved_step != self.step:
            self._save()
        self.group.wait()
        return Outcome(self.step, self.step == self.recipe.steps, self._seconds(), self.best_db)

    def _parallel(self) -> nn.Module:
        forward = self.network
        if self.group.world > 1:
            ids = [self.group.device.index] if self.group.device.type == "cuda" else None
            unused = self.spec.architecture == "promptir"  # stored modules that its forward never calls
            forward = DistributedDataParallel(forward, device_ids=ids, find_unused_parameters=unused)
        return torch.compile(forward, dynamic=False) if self.recipe.compile else forward  # type: ignore[return-value]

    def _shares(self) -> Shares:
        return Shares(
            self.recipe.stages,
            first_step=self.step,
            accumulate=self.recipe.accumulate,
            rank=self.group.rank,
            world=self.group.world,
        )

    def _step(self, forward: nn.Module, source: Iterator[Batch]) -> tuple[float, float, float, float]:
        """One optimiser step: loss, PSNR in dB, norm of the gradient, learning rate."""
        torch.manual_seed((self.recipe.seed * 1_000_003 + self.step) % _LARGE_PRIME)  # KGT draws its k
        rate = learning_rate(self.recipe.optimiser, self.step, self.recipe.steps)
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = rate
        device, parts = self.group.device, self.recipe.accumulate
        criterion = self.recipe.loss_at(self.step)
        total, error = torch.zeros((), device=device), torch.zeros((), device=device)
        names: list[str] = []
        for part in range(parts):
            batch = next(source)
            names.extend(batch.names)
            degraded = batch.degraded.to(device, non_blocking=True, memory_format=torch.channels_last)
            clean = batch.clean.to(device, non_blocking=True)
            with self._no_sync(forward, last=part == parts - 1):
                with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.autocast == "bf16"):
                    output = forward(degraded)
                loss = loss_of(criterion, output, clean)
                if self.quantised is not None:
                    loss = self.quantised.loss(loss, degraded, output)
                (loss / parts).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() / parts
            with torch.no_grad():
                error += (output.float().clamp(0, 1) - clean).square().mean() / parts
        most = self.recipe.optimiser.clip_norm
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), math.inf if most is None else most)
        mean_loss, mean_error = float(self.group.mean(total)), float(self.group.mean(error))
        norm_value = float(norm)
        if not (math.isfinite(mean_loss) and math.isfinite(norm_value)):
            raise CheckFailed(
                "the loss or its gradient is not a number any more; the files of the last save are as they were",
                where=f"step {self.step + 1}",
                got=f"loss {mean_loss:g}, gradient norm {norm_value:g}, on {', '.join(sorted(set(names)))}",
                fix="Lower the learning rate or set optimiser.clip_norm, and go on with --resume.",
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.network, self.step)
        return mean_loss, -10 * math.log10(max(mean_error, 1e-12)), norm_value, rate

    def _no_sync(self, forward: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        """Gradients of all but the last part stay in the process."""
        if last or not isinstance(forward, DistributedDataParallel):
            return nullcontext()
        return forward.no_sync()

    def _validation_is_due(self) -> bool:
        assert self.recipe.validation is not None
        return self.step % self.recipe.validation.every_steps == 0 or self.step == self.recipe.steps

    def _validate(self, validator: Validator) -> None:
        if self.group.first:
            with self._averaged():
                psnr_db = validator(self.network)
            self.watcher.validated(self.step, psnr_db)
            mean_db = sum(psnr_db.values()) / len(psnr_db)
            if self.best_db is None or mean_db > self.best_db:
                self.best_db = mean_db
                self._save_weights(BEST)
        self.group.wait()

    def _averaged(self) -> AbstractContextManager[object]:
        """The network with the weights that are saved: the averaged ones where there are any."""
        return nullcontext() if self.average is None else _Swapped(self.network, self.average.state_dict())

    def _save(self) -> None:
        state = TrainingState(
            step=self.step,
            recipe=self.recipe.digest(),
            network=self.network.state_dict(),
            optimiser=self.optimiser.state_dict(),
            average=None if self.average is None else self.average.state_dict(),
            best_db=self.best_db,
            seconds=self._seconds(),
            ranges={} if self.quantised is None else self.quantised.ranges(),
        )
        save_state(self.folder, state)
        self._save_weights(LATEST)
        self.watcher.saved(self.step)

    def _save_weights(self, name: str) -> None:
        weights = WeightsSpec(source="checkpoint", trained=True, sha256="")
        spec: ModelSpec = replace(self.spec, weights=weights)
        with self._averaged():
            save_checkpoint(self.folder / name, self.network, spec)

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started

    def _pixels(self, step: int) -> int:
        """Input pixels of the first ``step`` steps."""
        return sum(done * stage.batch * stage.patch_px**2 for done, stage in self._done(step))

    def _patches(self, step: int) -> int:
        return sum(done * stage.batch for done, stage in self._done(step))

    def _done(self, step: int) -> Iterator[tuple[int, Stage]]:
        for stage in self.recipe.stages:
            done = min(step, stage.steps)
            yield done, stage
            step -= done


class _Swapped:
    """Inside the block the network has other weights; afterwards its own again, the very same tensors."""

    def __init__(self, network: nn.Module, weights: dict[str, Tensor]) -> None:
        self._network = network
        self._weights = weights

    def __enter__(self) -> None:
        self._own = {name: tensor.clone() for name, tensor in self._network.state_dict().items()}
        self._network.load_state_dict(self._weights)

    def __exit__(self, *error: object) -> None:
        self._network.load_state_dict(self._own)


def _decay_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """Parameters that decay and those that do not: norms, biases, temperatures and other vectors."""
    settings = recipe.optimiser
    decaying: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in network.parameters():
        vector = sum(side > 1 for side in parameter.shape) <= 1
        (free if vector and not settings.decay_vectors else decaying).append(parameter)
    common = {"betas": settings.betas}
    return [
        {"params": decaying, "weight_decay": settings.weight_decay, **common},
        {"params": free, "weight_decay": 0.0, **common},
    ]
