"""A job from here: every line once however often the connection breaks, and what is said when it does not come back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeir.errors import MissingDependency, OutOfSpace
from edgeir.remote import jobs
from edgeir.remote.addresses import Device
from edgeir.remote.jobs import mark_taken, run_job
from edgeir.remote.pictures import Job, digest_of, numbered, with_own_names
from edgeir.remote.refusals import ConnectionLost, Refused, Unreachable

LOG = b"[1/3] opening\n[2/3] building\n[3/3] adding it\n"


class Board:
    """Answers as a board does; the connection breaks after so many lines of each listening."""

    def __init__(self, *breaks: int, found: str = "started", end: dict[str, Any] | None = None) -> None:
        self.device = Device("orin", "ubuntu@orin")
        self.breaks = list(breaks)
        self.found = found
        self.end = end or {"state": "ended", "exit": 0}
        self.asked: list[str] = []

    def ask(self, question: str, **arguments: Any) -> dict[str, Any]:
        self.asked.append(question)
        return {"token": "t", "found": self.found} if question == "start" else {"output": "result"}

    def listen(self, question: str, on_line: Callable[[bytes], None], *, offset: int, **_: Any) -> dict[str, Any]:
        lines = LOG[offset:].splitlines(keepends=True)
        count = self.breaks.pop(0) if self.breaks else len(lines)
        for line in lines[:count]:
            on_line(line)
        if count < len(lines) or (self.breaks and not lines):
            raise ConnectionLost("the connection broke", where="orin")
        return self.end


def followed(board: Board) -> tuple[Any, list[str], list[float]]:
    said: list[str] = []
    waits: list[float] = []
    return run_job(board, "key", ["edgeir"], said.append, sleep=waits.append), said, waits  # type: ignore[arg-type]


def test_every_line_comes_once() -> None:
    end, said, waits = followed(Board(1, 0, 0, 1))
    assert (end.exit, end.output, end.found, end.last_line) == (0, "result", "started", "[3/3] adding it")
    assert [line for line in said if line.startswith("[")] == LOG.decode().splitlines()
    assert waits == [0.5, 1, 2, 0.5]  # a line that comes begins the count anew
    assert "the connection broke, the work goes on there; trying again in 0.5 s (1 of 6)" in said


def test_a_connection_that_does_not_come_back() -> None:
    board = Board(1, *[0] * 20)
    with pytest.raises(Unreachable, match=r"goes on there: the same command attaches to it again") as caught:
        followed(board)
    assert caught.value.exit_code == 3
    assert board.asked == ["start"]
    assert len(jobs._WAITS_S) == jobs.RETRIES


@pytest.mark.parametrize(("found", "says"), [("running", "attached to it"), ("ended", "while nobody listened")])
def test_what_was_found_is_said(found: str, says: str) -> None:
    assert says in followed(Board(found=found))[1][0]


@pytest.mark.parametrize(
    ("end", "says"),
    [({"state": "died", "free_bytes": 10**9}, "ended from outside"), ({"state": "stopped"}, "the work was stopped"),
     ({"state": "another"}, "another call took its place")],
)  # fmt: skip
def test_jobs_without_an_end(end: dict[str, Any], says: str) -> None:
    with pytest.raises(MissingDependency, match=rf"orin: .*{says} .*adding it"):
        followed(Board(end=end))


def test_a_job_that_died_of_a_full_disk() -> None:
    with pytest.raises(OutOfSpace, match=r"orin: the disk of the device became full .*adding it"):
        followed(Board(end={"state": "died", "free_bytes": 0}))


def test_what_will_be_refused_the_next_time_is_not_tried_again() -> None:
    board = Board()

    def listen(*_: Any, **__: Any) -> Any:
        raise Refused("the device refuses the login", where="orin")

    board.listen = listen  # type: ignore[method-assign]
    waits: list[float] = []
    with pytest.raises(Refused):
        run_job(board, "key", ["edgeir"], lambda _: None, sleep=waits.append)  # type: ignore[arg-type]
    assert waits == []


def test_a_result_is_read_again_when_the_connection_breaks() -> None:
    board, breaks = Board(), 2
    ask = board.ask

    def breaking(question: str, **arguments: Any) -> dict[str, Any]:
        nonlocal breaks
        if question in ("read", "mark") and breaks:
            breaks -= 1
            raise ConnectionLost("the connection broke", where="orin")
        return ask(question, **arguments)

    board.ask = breaking  # type: ignore[method-assign]
    end, _, waits = followed(board)
    assert (end.output, waits) == ("result", [0.5, 1])
    assert "mark" not in board.asked  # it is not in anybody's hands yet
    breaks = 1
    mark_taken(board, end, lambda _: None, sleep=waits.append)  # type: ignore[arg-type]
    assert board.asked[-1] == "mark"
    board.ask = lambda question, **_: {"token": "t", "found": "ended", "output": None}  # type: ignore[method-assign]
    with pytest.raises(MissingDependency, match="another call took its place"):
        followed(board)


def test_names_of_pictures_there(tmp_path: Path) -> None:
    pairs = [
        ("a b.png", "a b.png"),
        ("x.gif", "x.gif.png"),
        ("y.jpg", "other.tif"),
        ("odd.p;g", "odd.png"),
        ("no", "n"),
    ]
    made = [Job(tmp_path / source, tmp_path / "out" / destination) for source, destination in pairs]
    assert numbered(made, "in") == ("0001.png", "0002.gif", "0003.jpg", "0004", "0005")
    assert numbered(made, "out") == ("0001.png", "0002.gif.png", "0003.tif", "0004.png", "0005")


def test_lines_from_there_with_names_of_here(tmp_path: Path) -> None:
    made = [Job(tmp_path / name, tmp_path / "out" / name) for name in ("cat.png", "dog.png")]

    def named(text: str, jobs: list[Job], source: Path) -> str:
        return with_own_names(text, jobs=jobs, source=source, output=tmp_path / "out", folder="/r/runs/k")

    assert named("skipped: /r/runs/k/in/0002.png: bad", made, tmp_path) == f"skipped: {tmp_path}/dog.png: bad"
    assert named("0001.png: 3 of 20 tiles, 0007.png", made, tmp_path) == "cat.png: 3 of 20 tiles, 0007.png"
    assert (
        named("/r/runs/k/in/0001.png: 2048 pixels", made[:1], tmp_path / "cat.png")
        == f"{tmp_path}/cat.png: 2048 pixels"
    )


def test_what_makes_two_runs_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    job = Job(tmp_path / "a.png", tmp_path / "b.png")
    first = digest_of([job], ["--tile", "64"])
    assert first == digest_of([Job(job.source, tmp_path / "c.png")], ["--tile", "64"])
    assert first != digest_of([Job(job.source, tmp_path / "b.jpg")], ["--tile", "64"])
    assert first != digest_of([job], ["--tile", "32"])
    job.source.write_bytes(b"b")
    assert first != digest_of([job], ["--tile", "64"])
