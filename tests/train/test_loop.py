"""The loop: a run that was stopped, shared or killed ends with the weights of one that was not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from edgeir.errors import CheckFailed, CheckpointError, UsageError
from edgeir.models.checkpoint import load_checkpoint
from edgeir.train.data import TrainingSet
from edgeir.train.distributed import Group
from edgeir.train.loop import Outcome, Progress, Trainer
from edgeir.train.recipe import Recipe, parse_recipe
from edgeir.train.setup import held_out_measure, network_of, training_pictures, validation_pictures
from edgeir.train.state import BEST, LATEST, STATE, load_state

Content = Callable[..., dict[str, Any]]
ALONE = Group(0, 1, torch.device("cpu"))


class Notes:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[Progress] = []
        self.saves: list[int] = []
        self.validations: list[tuple[int, dict[str, float]]] = []

    def stepped(self, progress: Progress) -> None:
        self.steps.append(progress)

    def saved(self, step: int) -> None:
        self.saves.append(step)

    def validated(self, step: int, psnr_db: dict[str, float]) -> None:
        self.validations.append((step, psnr_db))


def trainer(recipe: Recipe, data: Path, out: Path, notes: Notes | None = None, **options: Any) -> Trainer:
    out.mkdir(exist_ok=True)
    loaded = network_of(recipe, data)
    sources = [part.source for part in training_pictures(recipe, loaded.spec, data)]
    samples = TrainingSet(sources, seed=recipe.seed, flips=recipe.flips, scale=1, cache_bytes=2**20)
    held_out = validation_pictures(recipe, loaded.spec, data)
    validator = held_out_measure(recipe, loaded.spec, held_out, ALONE.device)
    return Trainer(recipe, loaded, samples, ALONE, out, watcher=notes or Notes(), validator=validator, **options)


def run(recipe: Recipe, data: Path, out: Path, **options: Any) -> Outcome:
    return trainer(recipe, data, out, **options).run()


def weights(folder: Path, name: str = LATEST) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / name).module.state_dict()


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_loss_falls_and_the_weights_load(pictures: Path, content: Content, tmp_path: Path) -> None:
    recipe = parse_recipe(content(stages=[{"steps": 60, "patch_px": 16, "batch": 4}]), where="test")
    notes = Notes()
    outcome = trainer(recipe, pictures, tmp_path / "run", notes).run()
    assert outcome.finished
    assert outcome.step == 60
    first, last = (np.mean([p.loss for p in part]) for part in (notes.steps[:8], notes.steps[-8:]))
    assert last < 0.7 * first
    loaded = load_checkpoint(tmp_path / "run" / LATEST)
    assert loaded.spec.weights is not None
    assert loaded.spec.weights.trained
    assert notes.saves[-1] == 60
    assert all(p.learning_rate > 0 and p.pictures_per_second > 0 for p in notes.steps)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_run_is_the_undisturbed_one_bit_for_bit(
    pictures: Path, content: Content, tmp_path: Path, accumulate: int
) -> None:
    recipe = parse_recipe(content(accumulate=accumulate), where="test")
    run(recipe, pictures, tmp_path / "whole")
    calls = iter([False, False, True])  # stop after step 3: in the middle of an epoch of four pictures
    outcome = run(recipe, pictures, tmp_path / "parts", should_stop=lambda: next(calls))
    assert (outcome.step, outcome.finished) == (3, False)
    second = trainer(recipe, pictures, tmp_path / "parts")
    second.resume()
    assert second.run().finished
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    states = [load_state(tmp_path / part, recipe_digest=recipe.digest()) for part in ("whole", "parts")]
    assert equal(states[0].network, states[1].network)


def test_a_key_graphs_random_k_survives_a_stop(pictures: Path, content: Content, tmp_path: Path) -> None:
    kgt = {"dim": 8, "layers": [1, 1, 1, 1], "heads": [1, 2], "windows": [8, 4], "cpb_hidden": 16}
    kgt |= {"k": 4, "k_choices": [2, 4, 8]}
    recipe = parse_recipe(content(model={"variant": "kgt-tiny", "overrides": kgt}), where="test")
    run(recipe, pictures, tmp_path / "whole")
    calls = iter([False, True])
    run(recipe, pictures, tmp_path / "parts", should_stop=lambda: next(calls))
    second = trainer(recipe, pictures, tmp_path / "parts")
    second.resume()
    second.run()
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_accumulated_parts_make_the_same_step(pictures: Path, content: Content, tmp_path: Path) -> None:
    whole, parts = (parse_recipe(content(accumulate=n, ema_decay=None), where="test") for n in (1, 2))
    run(whole, pictures, tmp_path / "whole")
    run(parts, pictures, tmp_path / "parts")
    ours, theirs = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    # Sums in another order: 1e-7 of a gradient, which Adam's first steps turn into at most the same part of the rate.
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5


def test_validation_keeps_the_best(pictures: Path, content: Content, tmp_path: Path) -> None:
    validation = {
        "every_steps": 3,
        "data": [{"layout": "folder", "root": "held-out"}],
        "crop_px": 16,
        "conditions": ["noise-25", "clean"],
    }
    recipe = parse_recipe(content(validation=validation), where="test")
    notes = Notes()
    outcome = trainer(recipe, pictures, tmp_path / "run", notes).run()
    assert [step for step, _ in notes.validations] == [3, 6]
    assert all(set(found) == {"noise-25", "clean"} for _, found in notes.validations)
    means = [np.mean(list(found.values())) for _, found in notes.validations]
    assert outcome.best_db == pytest.approx(max(means))
    assert (tmp_path / "run" / BEST).is_file()
    assert equal(weights(tmp_path / "run", BEST), weights(tmp_path / "run")) == (means[1] > means[0])


def test_a_stage_minimises_its_own_loss(pictures: Path, content: Content, tmp_path: Path) -> None:
    stage = {"steps": 2, "patch_px": 16, "batch": 4}
    recipe = parse_recipe(content(stages=[stage | {"loss": {"kind": "psnr"}}, stage]), where="test")
    notes = Notes()
    trainer(recipe, pictures, tmp_path / "run", notes).run()
    losses = [progress.loss for progress in notes.steps]
    assert max(losses[:2]) < 0 < min(losses[2:])  # decibels are negative, a mean difference is not


def test_a_loss_that_is_no_number_stops_with_step_and_pictures(
    pictures: Path, content: Content, tmp_path: Path
) -> None:
    recipe = parse_recipe(content(saving={"every_steps": 1}), where="test")
    run_ = trainer(recipe, pictures, tmp_path / "run")

    def poison() -> bool:
        if run_.step == 2:
            with torch.no_grad():
                next(run_.network.parameters()).fill_(float("nan"))
        return False

    run_.should_stop = poison
    with pytest.raises(CheckFailed, match=r"step 3: the loss .*got loss nan.* on .*p\d\.png \(noise\)"):
        run_.run()
    state = load_state(tmp_path / "run", recipe_digest=recipe.digest())
    assert state.step == 2
    assert all(bool(tensor.isfinite().all()) for tensor in state.network.values())


def test_states_that_cannot_be_gone_on_with(pictures: Path, content: Content, tmp_path: Path) -> None:
    recipe = parse_recipe(content(), where="test")
    with pytest.raises(UsageError, match="no run to go on with"):
        trainer(recipe, pictures, tmp_path / "run").resume()
    run(recipe, pictures, tmp_path / "run")
    other = parse_recipe(content(seed=4), where="test")
    with pytest.raises(UsageError, match="started by another recipe"):
        trainer(other, pictures, tmp_path / "run").resume()
    file = tmp_path / "run" / STATE
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        trainer(recipe, pictures, tmp_path / "run").resume()


def test_quantisation_aware_fine_tuning_resumes_with_its_ranges(
    pictures: Path, content: Content, tmp_path: Path
) -> None:
    recipe = parse_recipe(content(qat={"observe_pictures": 2}), where="test")
    run(recipe, pictures, tmp_path / "whole")
    state = load_state(tmp_path / "whole", recipe_digest=recipe.digest())
    assert state.ranges
    assert all(amax > 0 for amax in state.ranges.values())
    calls = iter([False, True])
    run(recipe, pictures, tmp_path / "parts", should_stop=lambda: next(calls))
    second = trainer(recipe, pictures, tmp_path / "parts")
    second.resume()
    second.run()
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_fine_tuning_on_the_teacher_alone_does_not_see_the_truth(
    pictures: Path, content: Content, tmp_path: Path
) -> None:
    def tuned(name: str, **changes: Any) -> dict[str, torch.Tensor]:
        qat = {"observe_pictures": 2, "distill_weight": 1.0, "truth_weight": 0.0, **changes.pop("qat", {})}
        run(parse_recipe(content(qat=qat, **changes), where="test"), pictures, tmp_path / name)
        return weights(tmp_path / name)

    alone = tuned("alone")
    assert equal(alone, tuned("another loss", loss={"kind": "l1+fft", "fft_weight": 50.0}))
    assert not equal(alone, tuned("with the truth", qat={"truth_weight": 1.0}))


@pytest.mark.slow
def test_two_processes_equal_one(pictures: Path, content: Content, tmp_path: Path) -> None:
    recipe = content(stages=[{"steps": 20, "patch_px": 16, "batch": 4}], ema_decay=None)
    run(parse_recipe(recipe, where="test"), pictures, tmp_path / "one")
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "edgeir.cli.main", "train", str(file), "--data", str(pictures)]
    command += ["--out", str(tmp_path / "two"), "--device", "cpu"]
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            command, env={**common, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=240)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    ours, theirs = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-5  # the issue's own bound


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_what_loads(pictures: Path, content: Content, tmp_path: Path) -> None:
    recipe = content(stages=[{"steps": 4000, "patch_px": 16, "batch": 1}], saving={"every_steps": 1})
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    out = tmp_path / "run"
    command = [sys.executable, "-m", "edgeir.cli.main", "train", str(file), "--data", str(pictures), "--out", str(out)]
    done = 0
    for wait_s in (0.05, 0.31, 0.57):
        resume = ["--resume"] if (out / STATE).is_file() else []
        process = subprocess.Popen([*command, *resume], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        before = (out / STATE).stat().st_mtime_ns if resume else 0
        deadline = time.monotonic() + 120
        while not (out / LATEST).is_file() or (out / STATE).stat().st_mtime_ns == before:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
        state = load_state(out, recipe_digest=parse_recipe(recipe, where="test").digest())
        assert state.step > done
        done = state.step
        load_checkpoint(out / LATEST)
