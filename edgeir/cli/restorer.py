"""One opened network and all that stands around it in ``edgeir run``: the watch on outputs, and smaller tiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeir.bundle import Bundle
from edgeir.imaging.colour import to_uint8
from edgeir.imaging.picture import Picture
from edgeir.manifest import Tiling
from edgeir.runtime.byte_session import ByteSession, byte_twin, lost_depth, open_ort_bytes, why_not_bytes
from edgeir.runtime.restore import GraphInput, in_one_piece, overlap_to_run, restore_bytes, restore_pixels
from edgeir.runtime.sentry import ByteSentry, OnBad, SentrySession
from edgeir.runtime.session import Session
from edgeir.runtime.smaller_tiles import SmallerTiles
from edgeir.runtime.tile_statistics import StatisticsSession, gather

Pixels = NDArray[np.float32]
Progress = Callable[[int, int], None]


class Restorer:
    """Restores pictures of any size.

    Args:
        session: the opened network.
        graph: which batches it accepts.
        tiling: what was measured of its tiles.
        tile_px, overlap_px: the user's.
        on_bad: what is done about a bad output (`edgeir.runtime.sentry`).
        spare: opens the FP32 graph.
        say: told what the user should know.
        of_bytes: a session of bytes for the same network; pictures of 8 bits take it, those in tiles only where
            ``session`` itself rounds to bytes: else floats of tiles are the better ones to blend.
        sharing: opens the same network as a graph whose tiles share a picture's statistics; pictures in several
            tiles take it.
        unshared: said once when a picture is cut into tiles that do not share, though it was measured that they should.
    """

    def __init__(
        self,
        session: Session,
        graph: GraphInput,
        tiling: Tiling | None,
        *,
        tile_px: int | None,
        overlap_px: int | None,
        on_bad: OnBad,
        spare: Callable[[], Session],
        say: Callable[[str], None],
        of_bytes: ByteSession | None = None,
        sharing: Callable[[], StatisticsSession] | None = None,
        unshared: str | None = None,
    ) -> None:
        self._session = session
        self._graph = graph
        self._tiling = tiling
        self._overlap_px = overlap_px
        self._watch = SentrySession(session, on_bad=on_bad, spare=spare, say=say)
        self._sharing = None if sharing is None else _Sharing(sharing, self._watch, say)
        self._tiles = SmallerTiles(graph, tile_px, say)
        self._of_bytes = None if of_bytes is None else ByteSentry(of_bytes, self._watch)
        self._tile_px = tile_px
        self._only_whole = not getattr(session, "takes_bytes", False)
        self._say = say
        self._unshared = unshared
        self._taken: list[str] = []
        self._not_shared = 0
        self._said_depth = False
        self.runtime = session.name

    def pixels(self, pixels: Pixels, progress: Progress | None = None) -> Pixels:
        """``(H, W, 3) float32 in [0, 1] -> (s*H, s*W, 3) float32``.

        Raises:
            CheckFailed: the output is bad (`edgeir.runtime.sentry.SentrySession.run`).
            OutOfDeviceMemory: not even the smallest tile fits.
        """
        height, width = pixels.shape[:2]

        def attempt(tile_px: int | None) -> Pixels:
            overlap_px = self._overlap(tile_px)
            restore = partial(restore_pixels, tile_px=tile_px, overlap_px=overlap_px, progress=progress)
            if self._shares(height, width, tile_px) and self._sharing is not None:
                shared = self._sharing.restore(restore, self._graph, pixels)
                if shared is not None:
                    return shared
                self._not_shared += 1
            return restore(self._watch, self._graph, pixels)

        return self._tiles.restore(height, width, attempt)

    def picture(self, picture: Picture, progress: Progress | None = None) -> Picture:
        """A picture from a file, through bytes where these say all of it; see `pixels` for the errors."""
        session = self._of_bytes
        if not self._said_depth and (lost := lost_depth(self._session, picture)) is not None:
            self._said_depth = True
            self._say(lost)
        if session is None or not self._takes(picture, session):
            return picture.restored(self.pixels(picture.pixels, progress))
        turned = slice(None, None, -1 if session.form.kind == "bgr" else 1)
        given = np.ascontiguousarray(to_uint8(picture.pixels)[..., turned])

        def attempt(tile_px: int | None) -> NDArray[np.uint8]:
            overlap_px = self._overlap(tile_px)
            self._shares(picture.height, picture.width, tile_px)
            return restore_bytes(session, self._graph, given, tile_px=tile_px, overlap_px=overlap_px, progress=progress)

        restored = self._tiles.restore(picture.height, picture.width, attempt)[..., turned]
        return picture.restored(restored.astype(np.float32) / np.float32(255))

    def _takes(self, picture: Picture, session: ByteSentry) -> bool:
        if why_not_bytes(picture, session.form) is not None:
            return False
        return not self._only_whole or in_one_piece(self._graph, picture.height, picture.width, self._tile_px)

    def _shares(self, height: int, width: int, tile_px: int | None) -> bool:
        """Whether a picture of this size is cut into tiles that share its statistics; remembered, and said."""
        if in_one_piece(self._graph, height, width, tile_px):
            return False
        shares = self._sharing is not None
        way = "shared" if shares else "own"
        if way not in self._taken:
            self._taken.append(way)
            if not shares and self._unshared is not None:
                self._say(self._unshared)
        return shares

    def facts(self) -> dict[str, Any]:
        """What ``--json`` says of the runtime, of bad outputs, of smaller tiles and of what tiles share, so far."""
        return {
            "runtime": self.runtime,
            "sentry": self._watch.count.to_dict(),
            "smaller_tiles": [step.to_dict() for step in self._tiles.steps],
            "tile_statistics": self._taken[0] if self._taken else None,
            "not_shared_after_all": self._not_shared,
        }

    def summarise(self) -> None:
        """Say at the end what was bad."""
        if sentence := self._watch.count.sentence():
            self._say(sentence)

    def close(self) -> None:
        """Give back what the sessions hold."""
        self._watch.close()

    def _overlap(self, tile_px: int | None) -> int:
        """What tiles of this side share: the user's overlap too fits into half of a smaller tile."""
        px = overlap_to_run(self._graph, self._tiling, tile_px=tile_px, asked_px=self._overlap_px).px
        if not self._tiles.steps or tile_px is None:
            return px
        return min(px, tile_px // 2)


class _Sharing:
    """Tiles that share a picture's statistics, opened when a picture first has several, and looked at as all are.

    The FP32 graph takes no statistics: beside the others, a tile that it had to restore would stand out. The picture is
    restored once more then, every tile with its own statistics.
    """

    def __init__(
        self, open_session: Callable[[], StatisticsSession], watch: SentrySession, say: Callable[[str], None]
    ) -> None:
        self._open = open_session
        self._main = watch
        self._say = say
        self._opened: tuple[StatisticsSession, SentrySession] | None = None

    def restore(self, restore: Callable[..., Pixels], graph: GraphInput, pixels: Pixels) -> Pixels | None:
        """``restore(session, graph, pixels)`` with the statistics of ``pixels``; ``None`` where that goes wrong.

        Raises:
            CheckFailed: an output is bad (`edgeir.runtime.sentry.SentrySession.run`).
        """
        if self._opened is None:
            session = self._open()
            self._opened = session, self._main.beside(session)
        session, watch = self._opened
        statistics = gather(session, graph, pixels)
        if not np.isfinite(statistics).all():
            self._say("What the tiles find is not finite and cannot be shared: each takes its own.")
            return None
        before = watch.count.restored_in_fp32
        with session.sharing(statistics):
            restored = restore(watch, graph, pixels)
        if watch.count.restored_in_fp32 > before:
            self._say("FP32 shares no statistics: the picture is restored once more, each tile with its own.")
            return None
        return restored


def ort_session_of_bytes(bundle: Bundle, threads: int | None) -> ByteSession | None:
    """The bundle's graph of bytes in ONNX Runtime, where it has one that pictures from files fit.

    Raises:
        BundleError, GraphError: it is not what it should be.
        MissingDependency: onnxruntime is not installed.
    """
    twin = byte_twin(bundle, bundle.graph_for("onnxruntime"))
    if twin is None or twin[1].yuv is not None:
        return None
    return open_ort_bytes(bundle, threads=threads)


class Later:
    """A session that is opened when it is first run: beside one of bytes, most pictures need none of floats.

    Args:
        name: of the runtime.
        open_session: opens it.
    """

    def __init__(self, name: str, open_session: Callable[[], Session]) -> None:
        self.name = name
        self._open = open_session
        self._session: Session | None = None

    def run(self, pictures: Pixels) -> Pixels:
        """Restore a batch, see `edgeir.runtime.session.Session.run`."""
        if self._session is None:
            self._session = self._open()
        return self._session.run(pictures)
