"""Results files: what was measured, and on what.

A short measurement is written at once, by `write_result`. A long table grows row by row (`GrowingTable`): it is
measured in parts, what an earlier run measured stays unless it is measured again, and a run that is stopped loses
nothing. Each row names the run that measured it:
``{"setting": ..., "rows": [{..., "run": 0}, ...], "runs": [provenance, ...]}``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeir.provenance import collect


def write_result(out: Path | None, document: Mapping[str, object], *, started: float) -> None:
    """Write ``document`` and where it comes from; ``started`` is `time.perf_counter` then, ``None`` keeps nothing."""
    if out is not None:
        provenance = collect(seconds=time.perf_counter() - started).to_dict()
        out.write_text(json.dumps({**document, "provenance": provenance}, indent=1) + "\n", encoding="utf-8")


class GrowingTable:
    """Rows told apart by some of their columns.

    Args:
        out: the file; ``None`` keeps nothing.
        key: columns that tell two rows apart.
        setting: what all rows have in common; rows of a file with another setting are not comparable and are dropped.
    """

    def __init__(self, out: Path | None, key: Sequence[str], setting: Mapping[str, object]) -> None:
        self._out, self._key, self._setting = out, tuple(key), dict(setting)
        self._started = time.perf_counter()
        self.rows: list[dict[str, Any]] = []
        self._runs: list[dict[str, Any]] = []
        if out is not None and out.is_file():
            earlier = json.loads(out.read_text(encoding="utf-8"))
            if earlier.get("setting") == json.loads(json.dumps(self._setting)):
                self.rows, self._runs = earlier["rows"], earlier["runs"]
        self._runs.append({})  # this one

    def put(self, row: Mapping[str, object]) -> None:
        """Add ``row``, in place of an earlier one with the same key, and write the file."""
        place = [row[column] for column in self._key]
        new = {**row, "run": len(self._runs) - 1}
        same = [index for index, one in enumerate(self.rows) if [one[column] for column in self._key] == place]
        if same:
            self.rows[same[0]] = new
        else:
            self.rows.append(new)
        self._runs[-1] = collect(seconds=time.perf_counter() - self._started).to_dict()
        if self._out is not None:
            self._out.write_text(json.dumps(self._document(), indent=1) + "\n", encoding="utf-8")

    def _document(self) -> dict[str, object]:
        """The file's content, without runs that no row is of any more."""
        used = sorted({row["run"] for row in self.rows})
        rows = [{**row, "run": used.index(row["run"])} for row in self.rows]
        return {"setting": self._setting, "rows": rows, "runs": [self._runs[index] for index in used]}
