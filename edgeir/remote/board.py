"""What runs on a device: ``python -m edgeir.remote.board QUESTION JSON``, one answer line at the end of stdout.

``-`` in the place of the JSON reads it from standard input. What comes before the begin mark is a login shell's.

Questions that only handle files and processes import nothing heavy: a Jetson answers them in a tenth of a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeir import __version__
from edgeir.errors import EdgeIRError, MissingDependency, OutOfSpace, OutputError
from edgeir.remote import board_bundles, board_jobs

ANSWER = "edgeir-answer"
BEGIN = "edgeir-begin"


def state(root: Path) -> dict[str, Any]:
    """Version of edgeir, free disk, and the state of the board at this moment."""
    from edgeir.runtime.board import board_state

    return {
        "edgeir": __version__,
        "free_bytes": shutil.disk_usage(root).free,
        "board": board_state().to_dict(),
    }


def discard(root: Path, *, folder: str) -> dict[str, Any]:
    """Remove a folder or file below the root, unless a job works in it; ``left``: whether something of it is there."""
    place = inside(root, folder)
    if place.parent == root.resolve() / "runs" and board_jobs.is_running(root / "jobs" / place.name):
        return {"left": True}
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)
    return {"left": place.exists()}


def make(root: Path, *, folder: str) -> dict[str, Any]:
    """Make a folder below the root."""
    inside(root, folder).mkdir(parents=True, exist_ok=True)
    return {}


def names(root: Path, *, folder: str) -> dict[str, Any]:
    """Files directly in a folder below the root, with their sizes in bytes."""
    place = inside(root, folder)
    files = {path.name: path.stat().st_size for path in place.iterdir() if path.is_file()} if place.is_dir() else {}
    return {"files": files, "free_bytes": shutil.disk_usage(root).free}


def inside(root: Path, folder: str) -> Path:
    """A folder below the root, never the root itself nor anything outside of it."""
    place = (root / folder).resolve()
    if root.resolve() not in place.parents:
        raise OutputError("the path leads out of edgeir's folder", where=folder)
    return place


QUESTIONS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "state": state,
    "discard": discard,
    "make": make,
    "names": names,
    "inventory": board_bundles.inventory,
    "architectures": board_bundles.architectures,
    "assemble": board_bundles.assemble,
    "start": board_jobs.start,
    "follow": board_jobs.follow,
    "read": board_jobs.read,
    "mark": board_jobs.mark,
    "running": board_jobs.running,
    "stop": board_jobs.stop,
    "results": board_jobs.results,
    "supervise": board_jobs.supervise,
}


def main(arguments: list[str]) -> int:
    """Answer one question; exit code 0 with an answer, 1 with an error in it."""
    question, words = arguments
    request = json.loads(sys.stdin.read() if words == "-" else words)
    nonce, root = request.pop("nonce"), Path(request.pop("root"))
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"\n{BEGIN}:{nonce}\n")
        sys.stdout.flush()
    try:
        if question not in QUESTIONS:
            raise MissingDependency(
                "the device has another edgeir, which does not know this question",
                got=f"{question}, edgeir {__version__}",
                fix="Install this one there: edgeir device add, with the same name and address.",
            )
        answer = QUESTIONS[question](root, **request)
    except EdgeIRError as error:
        answer = {"error": _error(error)}
    except OSError as error:
        from edgeir.storage import SPACE_ERRNOS, storage_error

        where = error.filename if isinstance(error.filename, str) else str(root)
        known = storage_error(error, Path(where))
        if error.errno in SPACE_ERRNOS:
            known = OutOfSpace("the disk of the device is full", where=where, fix="Free some space there.")
        answer = {"error": _error(known)}
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        sys.stdout.write(f"\n{ANSWER}:{nonce} {json.dumps(answer)}\n")
        sys.stdout.flush()
    return 1 if "error" in answer else 0


def _error(error: EdgeIRError) -> dict[str, str | None]:
    return {
        "kind": type(error).__name__,
        "what": error.what,
        "where": error.where,
        "expected": error.expected,
        "got": error.got,
        "fix": error.fix,
    }


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # a pipe that nobody reads must not complain while the interpreter ends
