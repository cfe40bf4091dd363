"""Every error a user can meet, in one flat tree.

An error is one message: *where* it happened, *what* is wrong, what was *expected* and *got*, and the *fix*. The
command line prints the message on stderr and exits with the class's ``exit_code``; ``--debug`` adds the traceback.

Exit codes (design section 4): 0 done, 1 a check failed, 2 usage or bad input, 3 this environment lacks what is
needed, 4 an engine build failed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgeIRError(Exception):
    """Base of every error that edgeir raises on purpose.

    Args:
        what: what is wrong, a clause without a final full stop.
        where: the file, option, tensor or node it concerns.
        expected: what would have been right.
        got: what was found instead.
        fix: what to do about it, a full sentence.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        got: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.fix = fix
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        parts = []
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.got is not None:
            parts.append(f"got {self.got}")
        if parts:
            text += f" ({', '.join(parts)})"
        text = text.rstrip(".") + "."
        return f"{text} {self.fix}" if self.fix else text


class UsageError(EdgeIRError):
    """An option or a name that the command cannot use."""


class PictureError(EdgeIRError):
    """A picture, or a folder of pictures, that cannot be read or restored."""


class CheckpointError(EdgeIRError):
    """A checkpoint that cannot be read safely or does not fit the architecture."""


class BundleError(EdgeIRError):
    """A bundle, or a file in it, that is not what its manifest vouches for."""


class GraphError(EdgeIRError):
    """An ONNX graph or a precision plan that breaks a rule edgeir relies on."""


class OutputError(EdgeIRError):
    """A place that cannot be written to."""


class CheckFailed(EdgeIRError):
    """A measured value is outside its limit."""

    exit_code = 1


class MissingDependency(EdgeIRError):
    """A package, driver or device that this command needs is not here."""

    exit_code = 3


class OutOfSpace(EdgeIRError):
    """The disk is full, or too small for what is about to be written."""

    exit_code = 3


class BuildFailed(EdgeIRError):
    """A runtime's builder refused the graph, ran out of time or died."""

    exit_code = 4


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known names, to end an "unknown name" error with.

    >>> nearest("exda-tyni", ["exda-tiny", "exda-full"])
    "Did you mean 'exda-tiny'?"
    """
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Known: {', '.join(options)}."
