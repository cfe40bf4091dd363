"""Bytes in, bytes out: a graph that converts pictures itself (``--io``), opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgeir.bundle import Bundle
from edgeir.errors import BundleError, PictureError, UsageError
from edgeir.imaging.byte_formats import BYTE_FORMATS, MEAN_NAME, ByteFormat
from edgeir.imaging.picture import Picture
from edgeir.runtime.session import Session
from edgeir.spec import INPUT_NAME, OUTPUT_NAME

Bytes = NDArray[np.uint8]

BYTES_ROLE = "bytes"  # of a graph that takes and gives bytes


class ByteSession(Protocol):
    """An opened network that takes and gives bytes."""

    @property
    def name(self) -> str:
        """Runtime, version and device, for reports."""
        ...

    @property
    def form(self) -> ByteFormat:
        """How pictures lie in the bytes."""
        ...

    def run_bytes(self, pictures: Bytes) -> Bytes:
        """Restore a batch.

        Args:
            pictures: ``(N, H, W, 3) uint8`` in the channel order of `form`; for NV12 ``(N, 3H/2, W, 1)``.

        Returns:
            ``(N, s*H, s*W, 3) uint8``, clipped and rounded half to even; RGB, or BGR where `form` says so.

        Raises:
            PictureError: a pixel came out as no finite number, of which bytes would show nothing.
            UsageError: ``pixels`` are no bytes.
        """
        ...


class ValueSession(Protocol):
    """A runtime that takes and gives tensors by name, of whatever type the graph says."""

    @property
    def name(self) -> str:
        """Runtime, version and device, for reports."""
        ...

    def run_values(self, values: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Every output of the graph by name."""
        ...


@runtime_checkable
class FilledByteSession(ByteSession, Protocol):
    """A session of bytes that wants to know how many pictures of a batch are real."""

    def run_filled_bytes(self, pictures: Bytes, real: int) -> Bytes:
        """What `run_filled_bytes` gives for this session."""
        ...


def run_filled_bytes(session: ByteSession, pictures: Bytes, real: int) -> Bytes:
    """As `ByteSession.run_bytes`, for a batch that may be filled up: only the first ``real`` pictures come back."""
    if isinstance(session, FilledByteSession):
        return session.run_filled_bytes(pictures, real)
    return session.run_bytes(pictures)[:real]


class ByteGraph:
    """The bytes of a graph that `edgeir.export.byte_io` wrapped, through whatever runtime opened it.

    Args:
        session: has opened the graph.
        form: how pictures lie in its bytes.
    """

    def __init__(self, session: ValueSession, form: ByteFormat) -> None:
        self._session = session
        self._form = form

    @property
    def name(self) -> str:
        """Of the runtime, and the format."""
        return f"{self._session.name}, {self._form.name}"

    @property
    def form(self) -> ByteFormat:
        """How pictures lie in the bytes."""
        return self._form

    def run_bytes(self, pictures: Bytes) -> Bytes:
        """Restore a batch, see `ByteSession.run_bytes`."""
        if pictures.dtype != np.uint8:
            raise UsageError("this graph takes bytes", expected="uint8", got=str(pictures.dtype))
        outputs = self._session.run_values({INPUT_NAME: np.ascontiguousarray(pictures)})
        if not np.isfinite(outputs[MEAN_NAME].astype(np.float64)).all():
            raise PictureError(
                "the network gave pixels that are not finite numbers",
                where=self.name,
                fix="It overflowed: run it in a higher precision.",
            )
        return outputs[OUTPUT_NAME].astype(np.uint8, copy=False)


def byte_twin(bundle: Bundle, graph: Path) -> tuple[Path, ByteFormat] | None:
    """The graph with bytes at its ends that was made from ``graph``; ``None`` in a bundle without any.

    Args:
        bundle: an opened bundle.
        graph: one of its graphs of floats, such as ``bundle.graph_for("onnxruntime")``.

    Raises:
        BundleError: the bundle has graphs of bytes, and none belongs to this one.
    """
    files = {path.name: path for path in bundle.files(BYTES_ROLE)}
    if not files:
        return None
    for form in BYTE_FORMATS:
        if path := files.get(form.graph_name(graph.name)):
            return path, form
    raise BundleError(
        f"no graph of bytes belongs to {graph.name}",
        where=str(bundle.path),
        expected=" or ".join(form.graph_name(graph.name) for form in BYTE_FORMATS),
        got=", ".join(files),
        fix="Export again with --io.",
    )


def open_ort_bytes(bundle: Bundle, *, threads: int | None = None) -> ByteGraph | None:
    """The bundle's graph of bytes in ONNX Runtime, opened as ``--backend ort`` opens the graph of floats.

    Raises:
        MissingDependency: onnxruntime is not installed.
        BundleError: see `byte_twin`.
    """
    found = byte_twin(bundle, bundle.graph_for("onnxruntime"))
    if found is None:
        return None
    from edgeir.runtime.ort_session import OrtSession

    path, form = found
    # No CPU has FP8 kernels, and ONNX Runtime moves FP8 through operators that refuse it.
    session = OrtSession(path, threads=threads, integer_kernels=bundle.manifest.precision != "fp8")
    return ByteGraph(session, form)


def lost_depth(session: Session, picture: Picture) -> str | None:
    """What a session loses of a picture because its own ends are bytes, a sentence; ``None`` where it is nothing.

    Only engines have ends of one kind: a picture of more than 8 bits is rounded on its way into an engine of bytes, and
    what comes back has 256 steps.
    """
    if picture.bits <= 8 or not getattr(session, "takes_bytes", False):
        return None
    return (
        f"The engine takes and gives bytes: of the picture's {picture.bits} bits per channel 8 are left. "
        "'edgeir build --floats' builds one that keeps them."
    )


def why_not_bytes(picture: Picture, form: ByteFormat) -> str | None:
    """Why ``picture`` takes the path of floats, a clause; ``None`` where bytes say all of it.

    Bytes of a picture in one piece come out as the float path writes them, bit for bit.
    """
    if picture.bits != 8:
        return f"it has {picture.bits} bits per channel"
    if picture.alpha is not None:
        return "it has an alpha channel"
    if picture.grey:
        return "it is grey, and is written as the luma of floats"
    if form.yuv is not None:
        return "the graph takes NV12, which holds less colour than the picture"
    return None
