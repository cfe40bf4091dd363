"""The zoo's table against the networks it describes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgeir.errors import UsageError
from edgeir.models.build import build, describe, name_of
from edgeir.models.cost import count_gmac, count_parameters
from edgeir.models.registry import ARCHITECTURES, VARIANTS, architecture, variant

PUBLISHED = {
    "exda-tiny": 5_826_216,
    "exda-small": 10_237_728,
    "exda-full": 22_765_008,
    "kgt-s-x2": 11_869_991,
    "kgt-s-x3": 12_054_631,
    "kgt-s-x4": 12_017_703,
    "kgt-b-x2": 19_895_783,
    "kgt-b-x3": 20_080_423,
    "kgt-b-x4": 20_043_495,
    "cea-base": 24_191_284 + 113_475,
    "restormer-bias": 26_126_644,
    "restormer-biasfree": 26_111_668,
    "promptir": 35_592_263,
}
"""models.md sections 1.5, 2.4, 3.3, 4.1 and 4.2."""


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_and_cost(name: str) -> None:
    entry = VARIANTS[name]
    network = build(entry.architecture, entry.config, device="meta").eval()
    assert count_parameters(network) == entry.parameters == PUBLISHED.get(name, entry.parameters)
    for form, recorded in (("reference", entry.gmac_256), ("fast", entry.gmac_256_fast)):
        network.set_form(form)
        assert count_gmac(network, 256, 256) == pytest.approx(recorded, abs=0.0051)


def test_our_own_small_variants_are_small() -> None:
    assert VARIANTS["kgt-tiny"].parameters <= 2_000_000
    assert VARIANTS["kgt-tiny"].gmac_256_fast < 25
    assert VARIANTS["cea-tiny"].parameters <= 3_000_000
    assert VARIANTS["kgt-unet"].parameters == pytest.approx(25.82e6, abs=0.005e6)


def test_specs() -> None:
    for name, entry in VARIANTS.items():
        spec = describe(name, entry.architecture, entry.config, None)
        assert spec.size.accepts(spec.size.minimum, 2 * spec.size.multiple)
        assert set(entry.config) <= set(spec.config)
        assert name_of(spec.architecture, spec.config) == name
        assert (spec.size.multiple, spec.scale) == (entry.multiple, entry.scale)
    sizes = {name: describe(name, VARIANTS[name].architecture, VARIANTS[name].config, None) for name in VARIANTS}
    assert [sizes[name].size.multiple for name in ("exda-tiny", "kgt-tiny", "kgt-s-x2", "kgt-unet", "cea-base")] == [
        16,
        32,
        32,
        64,
        8,
    ]
    assert [sizes[f"kgt-s-x{scale}"].scale for scale in (2, 3, 4)] == [2, 3, 4]


def test_settings_that_steer_inference_keep_the_name() -> None:
    assert name_of("kgt", {**VARIANTS["kgt-tiny"].config, "k": 32}) == "kgt-tiny"
    assert name_of("exda", {"dim": 24, "gst_value_scale": "mean1"}) == "exda-custom"


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'exda-tyni'.* Did you mean 'exda-tiny'"):
        variant("exda-tyni")
    with pytest.raises(UsageError, match="Did you mean 'restormer'"):
        architecture("restromer")


def test_every_variant_has_an_architecture_and_every_architecture_a_variant() -> None:
    assert {entry.architecture for entry in VARIANTS.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("module", ["edgeir.models", "edgeir.models.registry"])
def test_importing_the_table_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
