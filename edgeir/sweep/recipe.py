"""Sweep recipes: what is multiplied with what, read from YAML and checked before anything is computed.

Paths in a recipe are relative to the recipe's own file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, create_model, field_validator, model_validator

from edgeir.recipe import Section, find_named, names_in, parse_section, read_yaml

PUBLISHED = Path(__file__).parent / "recipes"
"""Recipes that come with edgeir, by name."""

Positive = Annotated[int, Field(gt=0)]
PositiveReal = Annotated[float, Field(gt=0)]
Precisions = Literal["fp32", "fp16", "int8", "fp8"]
SizeText = Annotated[str, Field(pattern=r"^[1-9]\d{0,5}[xX][1-9]\d{0,5}$")]
FEWEST_ROUNDS = 3

_EXPORT_ONLY = ("precisions", "batches", "k", "targets", "for", "calibration", "plans", "drift_budget")


class TrialLimits(Section):
    """What one export or one measurement may take: wall time, and resident memory of all its processes together."""

    seconds: PositiveReal = 900.0
    memory_gib: PositiveReal = 8.0


class Match(Section):
    """Trials to leave out: those that agree with every key that is given."""

    model: str | None = None
    precision: Precisions | None = None
    size: SizeText | None = None
    batch: Positive | None = None
    k: Positive | None = None
    tile: Positive | None = None
    backend: str | None = None
    threads: Positive | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Match:
        if not self.model_fields_set:
            raise ValueError("an exclusion names at least one key")
        return self


# "for" is a word of Python's, and what `edgeir export` calls it.
_WithFor = create_model("_WithFor", __base__=Section, **{"for": (tuple[str, ...], ())})  # type: ignore[call-overload]


class SweepRecipe(_WithFor):  # type: ignore[valid-type, misc]
    """A sweep: the product of everything that is listed, without what is excluded.

    Attributes:
        version: of this format.
        name: one word or so; names the folder of the results.
        about: what it is for.
        models: names of the zoo, or checkpoint files.
        bundles: finished bundles instead, for a device without PyTorch; what an export decides is then decided.
        precisions: fp32, fp16, int8, fp8.
        sizes: of the pictures that are restored, HxW in pixels; a bundle's own where there is none.
        batches: pictures (or tiles) per run.
        k: neighbours per token of KGT's key graph, null for the model's own; other models do not multiply by it.
        tiles: side of the tiles that a picture is restored in, pixels; null for the whole picture.
        backends: keys of `edgeir.runtime.opening.BACKENDS`.
        threads: of the runtime; null leaves it to it.
        targets: engines to build with every export (rtx, tensorrt).
        for: runtimes to prepare a file for, as ``edgeir export --for``.
        calibration: folder of clean pictures, for eight bits; ``--calibration`` of the command goes before it.
        plans: per model and precision, a plan.yaml to follow instead of planning.
        drift_budget: dB that eight bits may lose where no plan is given.
        pictures: measuring pictures restored under every degradation.
        rounds: timed rounds.
        limits: see `TrialLimits`.
        exclude: see `Match`.
    """

    version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    about: str = ""
    models: tuple[str, ...] = ()
    bundles: tuple[Path, ...] = ()
    precisions: Annotated[tuple[Precisions, ...], Field(min_length=1)] = ("fp16",)
    sizes: tuple[SizeText, ...] = ()
    batches: Annotated[tuple[Positive, ...], Field(min_length=1)] = (1,)
    k: Annotated[tuple[Positive | None, ...], Field(min_length=1)] = (None,)
    tiles: Annotated[tuple[Positive | None, ...], Field(min_length=1)] = (None,)
    backends: Annotated[tuple[str, ...], Field(min_length=1)] = ("ort",)
    threads: Annotated[tuple[Positive | None, ...], Field(min_length=1)] = (None,)
    targets: tuple[Literal["rtx", "tensorrt"], ...] = ()
    calibration: Path | None = None
    plans: dict[str, dict[Precisions, Path]] = Field(default_factory=dict)
    drift_budget: PositiveReal | None = None
    pictures: Annotated[int, Field(ge=1, le=16)] = 2
    rounds: Annotated[int, Field(ge=FEWEST_ROUNDS)] = 9
    limits: TrialLimits = TrialLimits()
    exclude: tuple[Match, ...] = ()

    @field_validator("sizes")
    @classmethod
    def _in_lower_case(cls, sizes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(size.lower() for size in sizes)

    @model_validator(mode="after")
    def _names_one_kind(self) -> SweepRecipe:
        if bool(self.models) == bool(self.bundles):
            given = "both" if self.models else "neither"
            raise ValueError(f"name either models or bundles, and {given} is given")
        if self.bundles and (given_too := [key for key in _EXPORT_ONLY if key in self.model_fields_set]):
            raise ValueError(f"a finished bundle has its own {given_too[0]}; leave the key out")
        if self.models and not self.sizes:
            raise ValueError("name at least one size, such as sizes: [256x256]")
        return self

    @property
    def runtimes(self) -> tuple[str, ...]:
        """What stands under ``for``."""
        names: tuple[str, ...] = getattr(self, "for")
        return names


def load_recipe(name: str) -> tuple[SweepRecipe, Path]:
    """A recipe by path, or by the name of one that comes with edgeir, and its file.

    Raises:
        UsageError: there is none, or something in it is wrong; names the file and the key, offers the nearest.
    """
    path = find_named(name, PUBLISHED, what="sweep recipe")
    where = path.name if path.parent == PUBLISHED else str(path)
    return parse_section(SweepRecipe, read_yaml(path, what="recipe"), where=where, what="recipe"), path


def recipe_names() -> list[str]:
    """Recipes that come with edgeir."""
    return names_in(PUBLISHED)
