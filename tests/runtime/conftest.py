"""A bundle of the micro ExDA, small enough to be made for a test run."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeir.bundle import Bundle, BundleWriter
from edgeir.manifest import AxisRange, Manifest
from edgeir.provenance import collect
from edgeir.spec import INPUT_NAME, TensorSpec, WeightsSpec


@pytest.fixture(scope="session")
def bundle(micro: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    network = micro("exda", dynamic=True)
    low, best, high = network.shape.dynamic.minimum, network.shape.dynamic.optimum, network.shape.dynamic.maximum
    weights = WeightsSpec("checkpoint", trained=False, sha256="0" * 64)
    manifest = Manifest(
        name="exda-micro",
        precision="fp32",
        input=TensorSpec(INPUT_NAME, (1, 3, "H", "W")),
        ranges={letter: AxisRange(low[i], best[i], high[i]) for i, letter in enumerate("HW")},
        batch=1,
        model=dataclasses.replace(network.loaded.spec, weights=weights),
        provenance=collect(seconds=0, argv=["edgeir", "export"]),
    )
    destination: Path = tmp_path_factory.mktemp("bundle") / "exda-micro.edgeir"
    with BundleWriter(destination) as writer:
        for name in ("reference", "model"):
            shutil.copy(network.path, writer.path(f"{name}.onnx"))
            writer.add(f"{name}.onnx", name)
        writer.commit(manifest)
    return Bundle.open(destination)


def _load_fakes() -> Any:
    spec = importlib.util.spec_from_file_location(
        "edgeir_tests_fake_device", Path(__file__).with_name("fake_device.py")
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(sys.modules[spec.name])
    return sys.modules[spec.name]


fake_device = _load_fakes()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A machine with a GPU that is not there; whatever a test leaves on it fails the test."""
    machine = fake_device.install(monkeypatch, tmp_path / "cache")
    yield machine
    gc.collect()
    machine.assert_nothing_left()


@pytest.fixture
def device() -> Any:
    """``device.plan(...)``, ``device.make_bundle(...)``: engines and bundles for `fakes`."""
    return fake_device
