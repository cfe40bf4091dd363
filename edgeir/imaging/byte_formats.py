"""How pictures lie in the bytes that a graph takes and gives, where it converts them itself (``--io``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeir.errors import UsageError, nearest
from edgeir.imaging.yuv import YUVS, Yuv

# In the metadata of a graph that takes bytes: the name of its format.
IO_KEY = "edgeir_io"
# The second output of such a graph: the mean of each picture before it was clipped and rounded, (N,) float32. Bytes
# cannot say that a pixel is not a number; the mean can.
MEAN_NAME = "restored_mean"
FLOAT = "float"


@dataclass(frozen=True, slots=True)
class ByteFormat:
    """One way of giving pictures to a graph as bytes. What comes out is ``(N, s*H, s*W, 3) uint8``.

    Attributes:
        kind: ``"uint8"``: ``(N, H, W, 3)``, RGB in and out; ``"bgr"``: the same in OpenCV's order, in and out;
            ``"nv12"``: ``(N, 3H/2, W, 1)`` in (`edgeir.imaging.yuv`), RGB out.
        yuv: what the bytes of NV12 mean, ``None`` for the others.
    """

    kind: Literal["uint8", "bgr", "nv12"]
    yuv: Yuv | None = None

    @property
    def name(self) -> str:
        """``"uint8"``, ``"bgr"`` or ``"nv12-bt709-limited"``: in file names and in the graph's metadata."""
        return self.kind if self.yuv is None else f"{self.kind}-{self.yuv.name}"

    @property
    def text(self) -> str:
        """For people: ``"HWC uint8, RGB"``."""
        if self.yuv is not None:
            return f"NV12 uint8 ({self.yuv.matrix.upper().replace('BT', 'BT.')}, {self.yuv.range} range) to HWC RGB"
        return f"HWC uint8, {'BGR' if self.kind == 'bgr' else 'RGB'}"

    def input_shape(self, batch: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Of the graph's input, for pictures of ``height`` x ``width`` pixels."""
        if self.yuv is None:
            return batch, height, width, 3
        return batch, height // 2 * 3, width, 1

    def graph_name(self, graph: str = "model.onnx") -> str:
        """File name of ``graph`` with bytes at its ends.

        >>> ByteFormat("uint8").graph_name("model.tensorrt-8.6.onnx")
        'model.tensorrt-8.6.uint8.onnx'
        """
        return f"{graph.removesuffix('.onnx')}.{self.name}.onnx"

    def require_size(self, height: int, width: int, *, where: str) -> None:
        """Raise ``UsageError`` where NV12 is to have an odd side: a chroma pair belongs to 2x2 pixels."""
        if self.kind == "nv12" and (height % 2 or width % 2):
            raise UsageError(
                "NV12 needs even sides",
                where=where,
                got=f"{height}x{width}",
                fix=f"Use {height + height % 2}x{width + width % 2}.",
            )


BYTE_FORMATS: tuple[ByteFormat, ...] = (
    ByteFormat("uint8"),
    ByteFormat("bgr"),
    *(ByteFormat("nv12", yuv) for yuv in YUVS),
)


def byte_format_named(name: str) -> ByteFormat:
    """The row of `BYTE_FORMATS` called ``name``.

    Raises:
        UsageError: there is none; offers the nearest.
    """
    by_name = {form.name: form for form in BYTE_FORMATS}
    if name not in by_name:
        raise UsageError(f"unknown byte format '{name}'", expected=", ".join(by_name), fix=nearest(name, by_name))
    return by_name[name]
