"""A report back from the disk, to be shown in another format (`edgeir report`)."""

from __future__ import annotations

from pathlib import Path

from edgeir.errors import UsageError
from edgeir.report.json_format import report_from_json
from edgeir.report.value import Report

REPORT_NAME = "report.json"


def read_report(path: Path) -> Report:
    """The report in ``path``: a ``report.json``, or a folder that holds one, as every bundle does.

    Raises:
        UsageError: there is no such file or folder, it holds no report, the file cannot be read, it is not a report of
            edgeir, or it comes from a newer edgeir.
    """
    if not path.exists():
        raise UsageError("there is no such file or folder", where=str(path))
    file = path / REPORT_NAME if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"there is no {REPORT_NAME} in this folder" if path.is_dir() else "this is no ordinary file",
            where=str(path),
            fix="Name a bundle, a folder that a command wrote a report into, or the report.json itself.",
        )
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or type(error).__name__}", where=str(file)) from error
    except UnicodeDecodeError as error:
        raise UsageError("this is not a report of edgeir", where=str(file), got="bytes that are no text") from error
    return report_from_json(text, where=str(file))
