"""Names to networks: seeded weights are the same everywhere, and settings can be changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeir.errors import UsageError
from edgeir.models import loading
from edgeir.models.checkpoint import save_checkpoint
from edgeir.models.digest import weights_digest
from edgeir.models.loading import load_named, reconfigure
from edgeir.models.network import initialise

CEA_TINY_SEED_0 = "f7d941b0c28692f006d28da9f24eb951b3ed4934f49af0de3a9d6014141cf35d"
KGT_TINY_SEED_0 = "7a284d88f2f6c04ce995993ca8cd37c36717a27af2e7e4ed574698d2c6645b75"
PROMPTLESS = {"blocks": [1, 1, 1, 1], "refine": 0, "dim": 8}


def test_seeded_weights_are_pinned() -> None:
    """Bundles and reports quote these digests: the initialisation is part of the contract."""
    for name, digest in (("cea-tiny", CEA_TINY_SEED_0), ("kgt-tiny", KGT_TINY_SEED_0)):
        weights = loading.load_seeded(name, seed=0).spec.weights
        assert weights is not None
        assert (weights.source, weights.sha256) == ("seeded", digest)


def test_seeded_weights_leave_the_global_generator_alone_and_ignore_it() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = load_named("exda-tiny", overrides=PROMPTLESS)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    with ThreadPoolExecutor(4) as pool:
        others = list(pool.map(lambda _: load_named("exda-tiny", overrides=PROMPTLESS), range(4)))
    assert {other.spec for other in map(_hashable, others)} == {_hashable(first).spec}
    assert load_named("exda-tiny", seed=1, overrides=PROMPTLESS).spec.weights != first.spec.weights


def test_what_comes_back() -> None:
    loaded = load_named("exda-tiny", overrides=PROMPTLESS, seed=3)
    assert not loaded.module.training
    assert loaded.module.form == "fast"
    assert loaded.spec.name == "exda-custom"
    assert loaded.spec.weights is not None
    assert (loaded.spec.weights.state, loaded.spec.weights.seed) == ("untrained", 3)
    assert loaded.spec.weights.sha256 == weights_digest(loaded.module.state_dict())
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in loaded.module.parameters())
    out = loaded.module(torch.rand(1, 3, 16, 32))
    assert out.isfinite().all()


@pytest.mark.parametrize("name", ["kgt-tiny", "cea-tiny"])
def test_small_variants_run(name: str) -> None:
    loaded = load_named(name)
    side = loaded.spec.size.minimum
    with torch.no_grad():
        out = loaded.module(torch.rand(1, 3, side, 2 * side))
    assert out.shape == (1, 3, side, 2 * side)
    assert out.isfinite().all()


def test_promptir_and_restormer_are_initialised_fully() -> None:
    """Every tensor comes from the generator or a constant: two processes' memory garbage would differ."""
    overrides = {"dim": 2, "blocks": [1, 1, 1, 1], "refine": 0, "heads": [1, 1, 1, 1]}
    for name in ("promptir", "restormer-biasfree"):
        first, second = (load_named(name, overrides=overrides) for _ in range(2))
        assert first.spec == second.spec
        assert all(tensor.isfinite().all() for tensor in first.module.state_dict().values())


def test_unknown_settings_and_names() -> None:
    with pytest.raises(UsageError, match="Did you mean 'dim'"):
        load_named("exda-tiny", overrides={"dimm": 8})
    with pytest.raises(UsageError, match="Did you mean 'kgt-tiny'"):
        load_named("kgt-tny")


def test_reconfigure_changes_k_and_nothing_else() -> None:
    loaded = load_named("kgt-tiny")
    narrow = reconfigure(loaded, {"k": 8})
    assert (narrow.spec.name, narrow.spec.config["k"]) == ("kgt-tiny", 8)
    assert narrow.spec.weights == loaded.spec.weights
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(narrow.module(image), loaded.module(image))
        assert torch.equal(narrow.module(image), load_named("kgt-tiny", overrides={"k": 8}).module(image))
    with pytest.raises(UsageError, match="setting 'dim' belongs to the trained network"):
        reconfigure(loaded, {"dim": 16})


def test_shipped_weights_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "SHIPPED", tmp_path)
    seeded = load_named("kgt-tiny", seed=5)
    assert seeded.spec.weights is not None
    trained = replace(seeded.spec, weights=replace(seeded.spec.weights, trained=True, seed=None))
    save_checkpoint(tmp_path / "kgt-tiny.safetensors", seeded.module, trained)
    shipped = load_named("kgt-tiny", overrides={"k": 32})
    assert shipped.spec.weights is not None
    assert (shipped.spec.weights.source, shipped.spec.weights.state) == ("shipped", "trained")
    assert shipped.spec.weights.sha256 == seeded.spec.weights.sha256
    assert shipped.spec.config["k"] == 32
    assert not shipped.module.training
    other = load_named("kgt-tiny", overrides={"dim": 16}).spec
    assert other.weights is not None
    assert (other.name, other.weights.source) == ("kgt-custom", "seeded")


def test_a_module_without_a_rule_is_a_bug() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    with pytest.raises(TypeError, match="Odd owns parameters"):
        initialise(Odd(), torch.Generator())


class _Spec:
    def __init__(self, spec: str) -> None:
        self.spec = spec


def _hashable(loaded: loading.LoadedModel) -> _Spec:
    return _Spec(loaded.spec.to_json())
