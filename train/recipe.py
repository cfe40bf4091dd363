"""Recipes: everything that decides a training run, read from YAML and checked before anything is computed.

A key that no section knows is an error that offers the nearest known one. Paths are relative to the data folder that
the command line names (``--data``), so that a recipe holds nothing of a machine.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from edgeir.imaging.draws import Mixture, parse_mixture
from edgeir.recipe import Section, find_named, names_in, parse_section, read_yaml

_LATER = {"loss": None, "sharpest": 1.0, "grey": 0.0, "channel_shuffle": 0.0}
"""Options of sections that recipes did not have from the beginning; at these values a digest does not know them."""

PUBLISHED = Path(__file__).parent / "recipes"
"""Recipes that come with edgeir, by name."""

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Model(Section):
    """The network: a variant of the zoo, its changed settings, and the weights it starts from.

    Attributes:
        variant: key of `edgeir.models.registry.VARIANTS`.
        overrides: settings that differ from the variant's.
        initial: checkpoint to start from, relative to the data folder, or ``shipped`` for the weights that come with
            edgeir, or several checkpoints that went on from one another, whose weights are averaged (Wortsman et al.,
            "Model soups", ICML 2022); otherwise the seed decides.
    """

    variant: str
    overrides: dict[str, Any] = Field(default_factory=dict)
    initial: Path | Annotated[tuple[Path, ...], Field(min_length=2)] | None = None


class Data(Section):
    """One source of pictures.

    Attributes:
        layout: key of `edgeir.train.layouts.LAYOUTS`.
        root: folder, relative to the data folder.
        repeat: how often each picture counts per epoch.
        shrink: area-average ``shrink`` x ``shrink`` pixels into one while reading; takes the JPEG out of photographs.
        sharpest: share of the pictures to train on, those with the most detail once shrunk; 1 for all. Photographs out
            of focus teach a network to smooth.
        grey: share of the samples that lose their colour: `edgeir.imaging.colour.luma` in all three channels.
        channel_shuffle: share of the samples whose channels change places at random: a blue sky becomes a red one, so
            that no colour means a degradation.
        only: names of the parts of ``degradations`` that fall on these pictures; all of them if absent. Pairs take
            theirs from disk and get none.
    """

    layout: str
    root: Path
    repeat: Positive = 1
    shrink: Positive = 1
    sharpest: Annotated[float, Field(gt=0, le=1)] = 1.0
    grey: Annotated[float, Field(ge=0, le=1)] = 0.0
    channel_shuffle: Annotated[float, Field(ge=0, le=1)] = 0.0
    only: tuple[str, ...] | None = None


class Loss(Section):
    """What is minimised.

    Attributes:
        kind: ``l1``; ``charbonnier``; ``l1+fft``: L1 plus ``fft_weight`` times the L1 of the 2-D Fourier transform;
            ``psnr``: minus the PSNR of every sample; ``psnr+l1``: that plus ``l1_weight_db`` times L1. In a mixture
            PSNR pulls at the weak degradations and L1 at the strong ones.
        charbonnier_epsilon: rounding of the corner of Charbonnier.
        fft_weight: as above.
        psnr_ceiling_db: PSNR from which on a sample is good enough to stop mattering.
        l1_weight_db: decibels that a mean absolute difference of 1 counts.
    """

    kind: Literal["l1", "charbonnier", "l1+fft", "psnr", "psnr+l1"] = "l1"
    charbonnier_epsilon: Annotated[float, Field(gt=0)] = 1e-3
    fft_weight: Annotated[float, Field(ge=0)] = 0.1
    psnr_ceiling_db: Annotated[float, Field(gt=0, le=200)] = 80.0
    l1_weight_db: Annotated[float, Field(ge=0)] = 50.0


class Stage(Section):
    """Some steps with patches of one size.

    Attributes:
        steps: optimiser steps.
        patch_px: side of the square patches, pixels of the input; a multiple of the network's size rule.
        batch: patches per optimiser step, over all processes and accumulated parts.
        loss: what these steps minimise instead of the recipe's ``loss``.
    """

    steps: Positive
    patch_px: Positive
    batch: Positive
    loss: Loss | None = None


class Optimiser(Section):
    """AdamW (Loshchilov and Hutter 2019) and its learning rate, stepped once per iteration.

    Attributes:
        learning_rate: highest rate.
        betas: decay of the first and second moment.
        weight_decay: decoupled decay; norms, biases and other vectors get none unless ``decay_vectors``.
        decay_vectors: decay every parameter, as PyTorch's defaults do.
        clip_norm: largest norm of the gradient; absent for none.
        schedule: ``cosine``: warm-up, constant for ``hold_steps``, then half a cosine down to ``final_rate``;
            ``multistep``: warm-up, then halved (``gamma``) at each of ``milestones``; ``constant``.
        warmup_steps: linear from 1/warmup_steps of the rate, so that no step runs at zero.
        hold_steps: see ``schedule``.
        final_rate: rate of the last step of the cosine.
        milestones: steps, ascending.
        gamma: factor at each milestone.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    decay_vectors: bool = False
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    schedule: Literal["cosine", "multistep", "constant"] = "cosine"
    warmup_steps: NotNegative = 0
    hold_steps: NotNegative = 0
    final_rate: Annotated[float, Field(ge=0)] = 1e-6
    milestones: tuple[Positive, ...] = ()
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5


class Validation(Section):
    """What is watched while training; never the measuring pictures, which judge the result.

    Attributes:
        every_steps: how often.
        data: pictures held out of training.
        crop_px: side of the square in the middle of each picture.
        conditions: names of `edgeir.imaging.conditions.VALIDATION_CONDITIONS`; pairs use what is on disk.
    """

    every_steps: Positive = 1000
    data: tuple[Data, ...]
    crop_px: Positive = 256
    conditions: tuple[str, ...] = ("noise-25",)


class Saving(Section):
    """When the state is saved: after so many steps, or so many seconds, whatever comes first."""

    every_steps: Positive = 1000
    every_seconds: Positive = 60


class Qat(Section):
    """Fine-tuning with fake quantisation, placed where ``calibrate`` places Q/DQ.

    Attributes:
        observe_pictures: patches that the ranges of activations are taken from, before the first step.
        percentile: of an activation's absolute values; the largest value on its grid.
        keep: modules (``latent.*``) that stay in float.
        distill_weight: weight of the L1 distance to the float network that training started from.
        truth_weight: weight of the recipe's own loss beside it; 0 changes nothing but what rounding did.
    """

    observe_pictures: Positive = 64
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.99
    keep: tuple[str, ...] = ()
    distill_weight: Annotated[float, Field(ge=0)] = 1.0
    truth_weight: Annotated[float, Field(ge=0)] = 1.0

    @model_validator(mode="after")
    def _trains_on_something(self) -> Qat:
        if self.distill_weight == 0 and self.truth_weight == 0:
            raise ValueError("distill_weight and truth_weight are both 0: nothing would be trained")
        return self


class Recipe(Section):
    """A training run.

    Attributes:
        version: of this format.
        name: one word or so; names the checkpoint.
        about: what it is, and where its numbers come from.
        seed: of the weights, the order, the crops and the degradations.
        model: see `Model`.
        data: see `Data`; one epoch is every picture of every source, ``repeat`` times, shuffled.
        degradations: name to ``{weight, steps}`` (`edgeir.imaging.draws`); for pictures without a degraded partner.
        flips: mirror and turn each patch at random, one of eight ways.
        stages: see `Stage`; progressive patch sizes are several.
        loss, optimiser, validation, saving, qat: see there.
        ema_decay: decay per step of the averaged weights, which are the ones saved; absent for none.
        autocast: ``bf16``: matrix products and convolutions in bfloat16, master weights in float32.
        accumulate: parts that a process takes its share of the batch in.
        compile: run the network through ``torch.compile``.
        workers: processes that read and degrade; 0 for none.
        cache_mib: memory for decoded pictures, over all workers, in MiB.
    """

    version: Literal[1] = 1
    name: str
    about: str = ""
    seed: NotNegative = 0
    model: Model
    data: Annotated[tuple[Data, ...], Field(min_length=1)]
    degradations: dict[str, Any] = Field(default_factory=dict)
    flips: bool = True
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    loss: Loss = Loss()
    optimiser: Optimiser = Optimiser()
    ema_decay: Share | None = None
    autocast: Literal["fp32", "bf16"] = "fp32"
    accumulate: Positive = 1
    compile: bool = False
    workers: NotNegative = 2
    cache_mib: Positive = 1024
    validation: Validation | None = None
    saving: Saving = Saving()
    qat: Qat | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        steps = self.steps
        if self.optimiser.warmup_steps + self.optimiser.hold_steps >= steps:
            raise ValueError(f"warmup_steps + hold_steps leave nothing of the {steps} steps")
        if list(self.optimiser.milestones) != sorted(set(self.optimiser.milestones)):
            raise ValueError("milestones must ascend")
        return self

    def loss_at(self, step: int) -> Loss:
        """What step number ``step`` (from 0) minimises: its stage's loss, or else the recipe's."""
        for stage in self.stages:
            if step < stage.steps:
                return stage.loss or self.loss
            step -= stage.steps
        return self.loss

    @property
    def steps(self) -> int:
        """All optimiser steps."""
        return sum(stage.steps for stage in self.stages)

    @property
    def samples(self) -> int:
        """All patches."""
        return sum(stage.steps * stage.batch for stage in self.stages)

    def mixture(self) -> Mixture | None:
        """The degradations, ready to draw; ``None`` where the recipe has none. Raises ``UsageError``."""
        return parse_mixture(self.degradations, where=f"{self.name}: degradations") if self.degradations else None

    def digest(self) -> str:
        """sha256 (hex) over all that decides the weights: a state resumes only under the recipe that wrote it."""
        free = {"about", "workers", "cache_mib", "saving", "compile"}
        content = {key: value for key, value in self.model_dump(mode="json").items() if key not in free}
        sections = [*content["stages"], *content["data"], *(content["validation"] or {}).get("data", ())]
        for section in sections:
            for key, default in _LATER.items():
                if section.get(key, ...) == default:
                    del section[key]
        content["order"] = list(self.degradations)  # decides which part a random number means
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def published() -> list[str]:
    """Names of the recipes that come with edgeir."""
    return names_in(PUBLISHED)


def find_recipe(name: str) -> Path:
    """The file of a recipe given by path or by the name of one that comes with edgeir.

    Raises:
        UsageError: neither; offers the nearest name.
    """
    return find_named(name, PUBLISHED, what="recipe")


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe file.

    Raises:
        UsageError: not YAML, an unknown key (offers the nearest), a missing one, or a value out of range.
    """
    return parse_recipe(read_yaml(path, what="recipe"), where=str(path))


def recipe_yaml(recipe: Recipe) -> str:
    """The recipe with every default written out; `read_recipe` gives an equal one."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_recipe(content: Any, *, where: str) -> Recipe:
    """A recipe from the value of its YAML; ``where`` names it in errors.

    Raises:
        UsageError: as `read_recipe`.
    """
    recipe = parse_section(Recipe, content, where=where, what="recipe")
    recipe.mixture()
    return recipe
