"""Only whole PNGs of one size are laid over each other."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image

from edgeir.errors import UsageError
from edgeir.report.comparison import Comparison


def picture(width: int = 4, height: int = 3, format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, format)
    return buffer.getvalue()


def test_it_is_a_value() -> None:
    layers = {"input": picture(), "engine": picture()}
    comparison = Comparison("c", layers)
    layers["late"] = b""
    assert list(comparison.layers) == ["input", "engine"]
    assert comparison.size == (4, 3)
    assert comparison == Comparison("c", {"input": picture(), "engine": picture()})


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ({}, "the comparison 'c': there is nothing to compare (expected two layers, got 0)."),
        ({"a": picture()}, "the comparison 'c': there is nothing to compare (expected two layers, got 1)."),
        (
            {"a": picture(), "b": picture(), "d": picture(3, 4)},
            "the comparison 'c': the layers 'a' and 'd' differ in size (expected 4x3, got 3x4).",
        ),
        *(
            ({"a": picture(), "b": bad}, "the comparison 'c', layer 'b': this is not a whole PNG.")
            for bad in (
                b"",
                b"PNG",
                picture(format="JPEG"),
                picture()[:-20],
                picture().replace(b"IDAT", b"IDAX"),
                "text",
            )
        ),
    ],
)
def test_refusals(layers: dict[str, bytes], says: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(says)}$"):
        Comparison("c", layers)
