"""Pictures of the same thing, to be laid over each other."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

from edgeir.errors import UsageError


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two or more PNGs of one size that show the same place; only the HTML format shows them.

    Attributes:
        caption: what is to be seen, a sentence.
        layers: name (``"input"``, ``"engine"``, ``"difference x8"``) to PNG file content. The page begins with the
            first two.

    Raises:
        UsageError: fewer than two layers, one that is not a PNG, or sizes that differ.
    """

    caption: str
    layers: Mapping[str, bytes]

    def __post_init__(self) -> None:
        where = f"the comparison '{self.caption}'"
        object.__setattr__(self, "layers", dict(self.layers))
        if len(self.layers) < 2:
            raise UsageError(
                "there is nothing to compare", where=where, expected="two layers", got=str(len(self.layers))
            )
        sizes = {name: _size(png, where=f"{where}, layer '{name}'") for name, png in self.layers.items()}
        first, size = next(iter(sizes.items()))
        for name, other in sizes.items():
            if other != size:
                raise UsageError(
                    f"the layers '{first}' and '{name}' differ in size",
                    where=where,
                    expected="x".join(map(str, size)),
                    got="x".join(map(str, other)),
                )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of every layer, in pixels."""
        return _size(next(iter(self.layers.values())), where=self.caption)


def _size(png: bytes, *, where: str) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            width, height = image.size
            image.verify()
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise UsageError("this is not a whole PNG", where=where) from error
    return width, height
