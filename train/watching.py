"""Who is told what happens in a run: several watchers at once, and TensorBoard as one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeir.errors import MissingDependency
from edgeir.train.loop import Progress, Watcher
from edgeir.train.validation import HeldOut


class Several:
    """A watcher that tells all others."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = tuple(watchers)

    def stepped(self, progress: Progress) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.stepped(progress)

    def saved(self, step: int) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.saved(step)

    def validated(self, step: int, psnr_db: dict[str, float]) -> None:
        """Pass it on."""
        for watcher in self._watchers:
            watcher.validated(step, psnr_db)


class Board:
    """TensorBoard: scalars of every step and validation, and one held-out picture per condition.

    Args:
        folder: of the run; events go to ``tensorboard`` in it.
        held_out: whose pictures are shown; ``None`` for none.

    Raises:
        MissingDependency: tensorboard is not installed.
    """

    def __init__(self, folder: Path, held_out: HeldOut | None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingDependency("tensorboard is not installed", fix="Run: pip install 'edgeir[train]'") from error
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))
        self._held_out = held_out

    def stepped(self, progress: Progress) -> None:
        """Write the scalars of a step."""
        for name in ("loss", "psnr_db", "gradient_norm", "learning_rate", "pictures_per_second"):
            self._writer.add_scalar(f"train/{name}", getattr(progress, name), progress.step)

    def saved(self, step: int) -> None:
        """Let the events be read up to here."""
        self._writer.flush()

    def validated(self, step: int, psnr_db: dict[str, float]) -> None:
        """Write PSNR and pictures per condition: degraded, restored and clean side by side."""
        for name, value in psnr_db.items():
            self._writer.add_scalar(f"held-out/{name} dB", value, step)
        for name, strip in (self._held_out.shown if self._held_out is not None else {}).items():
            self._writer.add_image(f"held-out/{name}", strip.clip(0, 1), step, dataformats="HWC")
        self._writer.flush()
