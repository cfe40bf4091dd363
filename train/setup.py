"""From a recipe to everything a run needs, resolved and checked before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from edgeir.errors import UsageError
from edgeir.imaging.conditions import condition_named
from edgeir.imaging.draws import Mixture
from edgeir.models.build import LoadedModel, describe, name_of
from edgeir.models.checkpoint import load_checkpoint
from edgeir.models.loading import load_named, load_seeded, reconfigure
from edgeir.models.registry import variant
from edgeir.spec import ModelSpec
from edgeir.train.averaging import mean_weights
from edgeir.train.data import Source
from edgeir.train.layouts import list_examples
from edgeir.train.pictures import readable, sharpest
from edgeir.train.recipe import Data, Recipe
from edgeir.train.validation import HeldOut

SHIPPED = Path("shipped")
"""Of ``model.initial``: not a file, but the weights that come with edgeir."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of one recipe section.

    Attributes:
        section: what the recipe says.
        source: what the run reads.
        skipped: files that cannot be used, and why.
    """

    section: Data
    source: Source
    skipped: tuple[tuple[Path, str], ...]


def spec_of(recipe: Recipe) -> ModelSpec:
    """The network's spec without weights; raises ``UsageError`` for an unknown variant or setting."""
    entry = variant(recipe.model.variant)
    settings = {**entry.config, **recipe.model.overrides}
    return describe(name_of(entry.architecture, settings), entry.architecture, settings, None)


def network_of(recipe: Recipe, data_root: Path) -> LoadedModel:
    """The network with its first weights: from ``model.initial``, or drawn from the recipe's seed.

    Raises:
        UsageError: unknown variant or setting, or no weights come for it.
        CheckpointError: the initial checkpoint cannot be read or is of another network.
    """
    spec = spec_of(recipe)
    if recipe.model.initial is None:
        return load_seeded(recipe.model.variant, seed=recipe.seed, overrides=recipe.model.overrides)
    if recipe.model.initial == SHIPPED:
        return _shipped(recipe)
    initial = recipe.model.initial
    paths = initial if isinstance(initial, tuple) else (initial,)
    found = [_checkpoint(data_root / path, str(path), spec.name) for path in paths]
    if len(found) > 1:
        found[0].module.load_state_dict(mean_weights([loaded.module.state_dict() for loaded in found]))
    return reconfigure(found[0], spec.config)


def _checkpoint(path: Path, where: str, name: str) -> LoadedModel:
    loaded = load_checkpoint(path)
    if loaded.spec.name != name:
        raise UsageError(
            "the initial checkpoint is of another network than the recipe's",
            where=where,
            expected=name,
            got=loaded.spec.name,
        )
    return loaded


def _shipped(recipe: Recipe) -> LoadedModel:
    loaded = load_named(recipe.model.variant, overrides=recipe.model.overrides)
    if not loaded.spec.trained:
        raise UsageError(
            f"no weights come for {loaded.spec.name}",
            where="model.initial",
            got=str(SHIPPED),
            fix="Name a checkpoint below the data folder, or leave it out.",
        )
    return loaded


def check_sizes(recipe: Recipe, spec: ModelSpec, *, world: int) -> None:
    """Raise ``UsageError`` for patches that the network refuses, and batches that cannot be shared out."""
    for index, stage in enumerate(recipe.stages):
        spec.size.require(stage.patch_px, stage.patch_px, where=f"stages[{index}].patch_px")
        parts = world * recipe.accumulate
        if stage.batch % parts:
            raise UsageError(
                "the batch cannot be shared out evenly",
                where=f"stages[{index}].batch",
                expected=f"a multiple of {parts} ({world} processes x {recipe.accumulate} accumulated parts)",
                got=str(stage.batch),
            )
    if recipe.validation is not None:
        for name in recipe.validation.conditions:
            condition_named(name)
        crop = recipe.validation.crop_px
        spec.size.require(crop, crop, where="validation.crop_px")


def training_pictures(recipe: Recipe, spec: ModelSpec, data_root: Path) -> list[Pictures]:
    """The pictures of every section of ``data``; those that cannot be used are listed, not lost.

    Raises:
        PictureError: a folder is missing or holds no usable picture.
        UsageError: pairs differ in size, or a section names an unknown degradation.
    """
    largest = max(stage.patch_px for stage in recipe.stages)
    mixture = recipe.mixture()
    return [
        _pictures(section, f"data[{index}]", data_root, mixture, spec.scale, largest)
        for index, section in enumerate(recipe.data)
    ]


def validation_pictures(recipe: Recipe, spec: ModelSpec, data_root: Path) -> list[Pictures]:
    """The held-out pictures; raises as `training_pictures`."""
    if recipe.validation is None:
        return []
    found = []
    for index, section in enumerate(recipe.validation.data):
        if section.only is not None:
            raise UsageError("validation has conditions, not degradations", where=f"validation.data[{index}].only")
        where = f"validation.data[{index}]"
        found.append(_pictures(section, where, data_root, None, spec.scale, recipe.validation.crop_px))
    return found


def require_apart(training: Sequence[Pictures], held_out: Sequence[Pictures]) -> None:
    """Raise ``UsageError`` if a validation picture is trained on as well."""
    trained = {example.clean.resolve() for part in training for example in part.source.examples}
    watched = [example.clean for part in held_out for example in part.source.examples]
    both = [path for path in watched if path.resolve() in trained]
    if both:
        raise UsageError(
            f"{len(both)} validation pictures are trained on as well",
            where=str(both[0]),
            fix="Hold them out: give validation a folder of its own.",
        )


def held_out_measure(
    recipe: Recipe, spec: ModelSpec, held_out: Sequence[Pictures], device: torch.device
) -> HeldOut | None:
    """What measures the network while it trains; ``None`` if the recipe has no validation."""
    if recipe.validation is None:
        return None
    return HeldOut(
        [(example, part.section.shrink) for part in held_out for example in part.source.examples],
        conditions=recipe.validation.conditions,
        crop_px=recipe.validation.crop_px,
        scale=spec.scale,
        device=device,
    )


def _pictures(
    section: Data, where: str, data_root: Path, mixture: Mixture | None, scale: int, least_px: int
) -> Pictures:
    root = data_root / section.root
    examples = list_examples(section.layout, root, scale=scale)
    good, skipped = readable(examples, min_side_px=least_px * scale, scale=scale, shrink=section.shrink)
    if section.sharpest < 1:
        good = sharpest(good, share=section.sharpest, shrink=section.shrink)
    if section.only is not None:
        if mixture is None:
            raise UsageError("the recipe has no degradations to choose from", where=f"{where}.only")
        mixture = mixture.only(section.only, where=f"{where}.only")
    source = Source(
        good, section.repeat, section.shrink, mixture, grey=section.grey, channel_shuffle=section.channel_shuffle
    )
    return Pictures(section, source, tuple(skipped))
