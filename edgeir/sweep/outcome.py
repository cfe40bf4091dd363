"""One row of the ledger: how one trial ended, and what it measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from edgeir.errors import UsageError
from edgeir.sweep.trial import Machine, Settings, Trial

ROW_VERSION = 1

Status = Literal["ok", "failed", "crashed", "timed out", "out of memory"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one trial ended.

    Attributes:
        key: `edgeir.sweep.trial.trial_key` of the next four.
        trial, settings, machine: what was tried, how thoroughly, and where.
        rung: of successive halving, from 0; 0 in a sweep that measures everything once.
        status: ``"ok"``; ``"failed"`` (an error that edgeir names, or Python's own), ``"crashed"`` (a signal),
            ``"timed out"`` or ``"out of memory"``.
        reason: one sentence where it is not ok, else ``""``.
        seconds: wall time of the whole trial, preparing included.
        peak_bytes: largest resident memory of its processes together that was seen.
        figures: what the worker measured, JSON values; empty unless ok.
    """

    key: str
    trial: Trial
    settings: Settings
    machine: Machine
    rung: int
    status: Status
    reason: str
    seconds: float
    peak_bytes: int
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it measured what it should."""
        return self.status == "ok"

    def to_line(self) -> str:
        """One line of JSON with its line break, without any path; what JSON does not know as a number is ``null``."""
        data = {"row_version": ROW_VERSION, **asdict(self), "trial": self.trial.identity()}
        return json.dumps(_finite(data), separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_line(cls, line: str, *, where: str) -> Outcome:
        """Inverse of `to_line`; ``where`` names the file and line in errors.

        Raises:
            UsageError: not such a row, or one of a newer edgeir.
        """
        try:
            data = json.loads(line)
            version = int(data.pop("row_version"))
            if version > ROW_VERSION:
                raise UsageError(
                    "the row comes from a newer edgeir", where=where, got=str(version), fix="Update edgeir."
                )
            if data["status"] not in get_args(Status):
                raise ValueError(f"unknown status {data['status']!r}")
            parts = {
                "trial": Trial.from_dict(data["trial"]),
                "settings": Settings(**data["settings"]),
                "machine": Machine(**data["machine"]),
            }
            return cls(**{**data, **parts})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            got = f"{type(error).__name__}: {error}"
            raise UsageError("this is not a row of a sweep", where=where, got=got) from error


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
