"""The client of docs/serving.md, against a stand-in for the server's package with the same names."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from edgeir.bundle import Bundle

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"
MODEL = "exda-tiny-fp16-256x256"


class InferInput:
    def __init__(self, name: str, shape: list[int], datatype: str) -> None:
        assert (name, datatype) == ("image", "FP32")
        self.shape = shape

    def set_data_from_numpy(self, data: np.ndarray) -> None:
        assert list(data.shape) == self.shape
        assert data.dtype == np.float32
        assert data.flags["C_CONTIGUOUS"]
        self.data = data


class InferenceServerClient:
    """Gives pictures back a little darker."""

    asked: ClassVar[list[tuple[int, ...]]] = []

    def __init__(self, url: str) -> None:
        assert url == "localhost:8000"

    def infer(self, model_name: str, inputs: list[InferInput]) -> Any:
        assert model_name == MODEL
        (image,) = inputs
        self.asked.append(image.data.shape)
        return SimpleNamespace(as_numpy=lambda name: image.data * 0.5 if name == "restored" else None)


def test_the_client(make_bundle: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    http = ModuleType("tritonclient.http")
    vars(http).update(InferInput=InferInput, InferenceServerClient=InferenceServerClient)
    package = ModuleType("tritonclient")
    vars(package).update(http=http, __path__=[])
    monkeypatch.setitem(sys.modules, "tritonclient", package)
    monkeypatch.setitem(sys.modules, "tritonclient.http", http)
    make_bundle(MODEL, shape=(1, 3, 256, 256))
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 128, (100, 300, 3), dtype=np.uint8) * 2  # halves are whole
    Image.fromarray(pixels).save("picture.png")

    exec(compile(source, str(PAGE), "exec"), {})

    assert InferenceServerClient.asked == [(1, 3, 256, 256)] * 2
    assert np.array_equal(np.asarray(Image.open("restored.png")), pixels // 2)
