"""From a recipe to its trials: every name checked, every file hashed, nothing computed yet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

from edgeir.bundle import Bundle
from edgeir.errors import UsageError, nearest
from edgeir.imaging.listing import list_pictures
from edgeir.manifest import MANIFEST_NAME
from edgeir.models.registry import VARIANTS, Variant, shipped_weights, variant
from edgeir.precision import Precision, read_plan
from edgeir.runtime.opening import BACKENDS, graph_input
from edgeir.spec import SizeRule
from edgeir.storage import sha256_of
from edgeir.sweep.recipe import Match, SweepRecipe
from edgeir.sweep.trial import Build, Trial

_CHECKPOINTS = (".safetensors", ".pth", ".pt", ".ckpt")
_NO_PICTURES = "Name a folder of clean pictures like those it will restore, a dozen or more: --calibration FOLDER."


def expand(recipe: SweepRecipe, path: Path, *, calibration: Path | None = None) -> tuple[Trial, ...]:
    """All trials of a recipe, in the order of its lists, each once.

    Args:
        recipe: what `edgeir.sweep.recipe.load_recipe` read.
        path: the file it came from.
        calibration: a folder of clean pictures instead of the recipe's.

    Raises:
        UsageError: an unknown model or backend (offers the nearest), a size or a tile that a network does not take, a
            plan for something else, an exclusion that matches nothing, eight bits without calibration, or nothing left.
        EdgeIRError: a file that is named cannot be read.
    """
    folder = path.parent
    for name in recipe.backends:
        if name not in BACKENDS:
            raise UsageError(f"unknown backend '{name}'", where=f"{path.name}: backends", fix=nearest(name, BACKENDS))
    if recipe.bundles:
        trials = list(dict.fromkeys(_of_bundles(recipe, folder, path.name)))
    else:
        trials = list(dict.fromkeys(_of_models(recipe, folder, path.name, calibration)))
    return _without_excluded(trials, recipe.exclude, path.name)


def _of_bundles(recipe: SweepRecipe, folder: Path, where: str) -> Iterator[Trial]:
    for named in recipe.bundles:
        place = folder / named
        manifest = Bundle.open(place, verify=False).manifest
        graph = graph_input(manifest)
        _, digest = sha256_of(place / MANIFEST_NAME)
        build = Build(
            manifest.name, digest, manifest.precision, *graph.optimum, batch=graph.batch, bundle=str(place.resolve())
        )
        for size, tile, backend, threads in product(
            recipe.sizes or (None,), recipe.tiles, recipe.backends, recipe.threads
        ):
            height, width = graph.optimum if size is None else _size(size)
            if tile is not None:
                graph.tile_for(height, width, tile)
                _require_smaller(tile, height, width, where)
            yield Trial(build, height, width, tile, backend, threads)


def _of_models(recipe: SweepRecipe, folder: Path, where: str, calibration: Path | None) -> Iterator[Trial]:
    named = calibration or (None if recipe.calibration is None else folder / recipe.calibration)
    eight = [name for name in recipe.precisions if Precision(name).eight_bits]
    if eight and named is None:
        raise UsageError(
            f"{eight[0]} needs pictures to find the ranges of activations on", where=where, fix=_NO_PICTURES
        )
    seen = _folder_sha256(named) if eight and named is not None else None
    for model in recipe.plans:
        if model not in recipe.models:
            raise UsageError(
                f"a plan for '{model}', which is not swept", where=f"{where}: plans", fix=nearest(model, recipe.models)
            )
    for model in recipe.models:
        entry, digest, checkpoint = _model(model, folder, where)
        # What a checkpoint holds is known when it is exported: one without a key graph then says so, as a row.
        ks = recipe.k if entry is None or entry.architecture == "kgt" else (None,)
        for name, size, batch, k, tile, backend, threads in product(
            recipe.precisions, recipe.sizes, recipe.batches, ks, recipe.tiles, recipe.backends, recipe.threads
        ):
            height, width = _size(size)
            if tile is not None:
                _require_smaller(tile, height, width, where)
            graph = (height, width) if tile is None else (tile, tile)
            if entry is not None:
                SizeRule(entry.multiple).require(*graph, where=f"{where}: {model}")
            plan, plan_digest = _plan(recipe, folder, model, name, where)
            eight_bits = Precision(name).eight_bits
            build = Build(
                Path(model).stem if entry is None else model,
                digest,
                name,
                *graph,
                batch=batch,
                k=k,
                targets=recipe.targets,
                runtimes=recipe.runtimes,
                drift_budget_db=recipe.drift_budget if eight_bits and plan is None else None,
                checkpoint=checkpoint,
                plan=plan,
                plan_sha256=plan_digest,
                calibration=str(named.resolve()) if eight_bits and named is not None else None,
                calibration_sha256=seen if eight_bits else None,
            )
            yield Trial(build, height, width, tile, backend, threads)


def _model(name: str, folder: Path, where: str) -> tuple[Variant | None, str, str | None]:
    """The zoo's entry if it is a named model, the hash of its weights, and the path of a checkpoint if it is one."""
    if name in VARIANTS:
        weights = shipped_weights(name)
        return variant(name), sha256_of(weights)[1] if weights.is_file() else "untrained", None
    if not name.endswith(_CHECKPOINTS):
        raise UsageError(f"unknown model '{name}'", where=f"{where}: models", fix=nearest(name, VARIANTS))
    path = folder / name
    if not path.is_file():
        raise UsageError("there is no such checkpoint", where=str(path))
    return None, sha256_of(path)[1], str(path.resolve())


def _plan(recipe: SweepRecipe, folder: Path, model: str, precision: str, where: str) -> tuple[str | None, str | None]:
    named = {str(key): file for key, file in recipe.plans.get(model, {}).items()}
    if precision not in named:
        return None, None
    path = folder / named[precision]
    found = read_plan(path).eight_bit_type
    wanted = Precision(precision) if Precision(precision).eight_bits else None
    if found is not wanted:
        has = "no layer in eight bits" if found is None else f"{found} layers"
        raise UsageError(
            f"the plan of {model} for {precision} has {has}",
            where=f"{where}: plans",
            expected=f"layers in {wanted}" if wanted else "no layer in eight bits",
        )
    return str(path.resolve()), sha256_of(path)[1]


def _folder_sha256(folder: Path) -> str:
    """Over the pictures in a folder by their content: a copy under another path is the same."""
    digests = sorted(sha256_of(picture)[1] for picture in list_pictures(folder).pictures)
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def _require_smaller(tile: int, height: int, width: int, where: str) -> None:
    if tile > min(height, width) or (tile, tile) == (height, width):
        raise UsageError(
            "a tile is smaller than the picture",
            where=f"{where}: tiles",
            expected=f"below {height}x{width}",
            got=str(tile),
        )


def _without_excluded(trials: Iterable[Trial], exclude: tuple[Match, ...], where: str) -> tuple[Trial, ...]:
    left = list(trials)
    for index, match in enumerate(exclude):
        matched = [trial for trial in left if _matches(trial, match)]
        if not matched:
            raise UsageError("no trial matches this exclusion", where=f"{where}: exclude.{index}")
        left = [trial for trial in left if trial not in matched]
    if not left:
        raise UsageError("every trial is excluded", where=f"{where}: exclude")
    return tuple(left)


def _matches(trial: Trial, match: Match) -> bool:
    build = trial.build
    values = {
        "model": build.name,
        "precision": build.precision,
        "size": trial.size,
        "batch": build.batch,
        "k": build.k,
        "tile": trial.tile_px,
        "backend": trial.backend,
        "threads": trial.threads,
    }
    wanted = {key: getattr(match, key) for key in match.model_fields_set}
    if match.model is not None and match.model.endswith(_CHECKPOINTS):
        wanted["model"] = Path(match.model).stem
    if match.size is not None:
        wanted["size"] = match.size.lower()
    return all(values[key] == value for key, value in wanted.items())
