"""``edgeir device`` where no board is needed: what is read of what a machine says, and when that counts as taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeir.cli import device_work
from edgeir.cli.device import _value
from edgeir.errors import MissingDependency
from edgeir.remote import pictures
from edgeir.remote.addresses import Device
from edgeir.remote.jobs import JobEnd
from edgeir.remote.refusals import Unreachable


def test_the_value_after_what_a_login_shell_says() -> None:
    assert _value('Welcome to Ubuntu\n{\n  "parts": []\n}\n', "orin") == {"parts": []}
    assert _value('{"parts": []}', "orin") == {"parts": []}
    for said in ("", "Welcome", "{ wrong", "[1]", "5"):
        with pytest.raises(MissingDependency, match="orin: 'edgeir doctor' gave no answer there"):
            _value(said, "orin")


class Orin:
    """A device with a job that ended, and pictures in a folder."""

    device = Device("orin", "u@h", root="/r", python="/r/envs/x/bin/python")

    def __init__(self, files: dict[str, int], free: int) -> None:
        self.files = files
        self.free = free
        self.asked: list[str] = []

    def ask(self, question: str, **_: object) -> dict[str, object]:
        self.asked.append(question)
        if question == "mark" and self.free == 0:
            raise Unreachable("there is no way to it", where="orin")
        return {"files": self.files, "free_bytes": self.free} if question == "names" else {}

    def transfer(self, *_: object) -> None:
        self.asked.append("transfer")


@pytest.mark.parametrize(
    ("there", "free", "asked"),
    [
        (
            {"0001.png": 3, "0002.png": 3},
            10,
            ["make", "make", "names"],
        ),  # all came before: nothing is asked of the disk
        ({"0001.png": 3}, 10, ["make", "make", "names"]),  # a call of before may be at work on the first
        ({}, 10, ["make", "make", "names", "discard"]),
        ({"0001.png": 3}, 10**9, ["make", "make", "names", "transfer"]),
    ],
)
def test_a_board_that_is_nearly_full(tmp_path: Path, there: dict[str, int], free: int, asked: list[str]) -> None:
    jobs = [pictures.Job(tmp_path / name, tmp_path / "out" / name) for name in ("a.png", "b.png")]
    for job in jobs:
        job.source.write_bytes(b"png")
    orin = Orin(there, free)
    if len(there) == 2 or free > 10:
        assert pictures.send(orin, jobs, "runs/k") == 2 - len(there)  # type: ignore[arg-type]
    else:
        with pytest.raises(Exception, match="orin: the disk of the device is too full for the pictures"):
            pictures.send(orin, jobs, "runs/k")  # type: ignore[arg-type]
    assert orin.asked == asked


def test_when_a_result_counts_as_taken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """After it was used, however it ended; not when using it failed, and not when there was none."""
    from edgeir.errors import CheckFailed, EdgeIRError, OutOfSpace
    from edgeir.remote import jobs

    end = JobEnd(0, "", "ended", "edgeir: it is wrong.", "k", "t")
    used: list[JobEnd | None] = []

    def work(orin: Orin, what: JobEnd | EdgeIRError, use: object = used.append) -> None:
        def ended(*_: object, **__: object) -> JobEnd:
            if isinstance(what, EdgeIRError):
                raise what
            return what

        monkeypatch.setattr(jobs, "run_job", ended)
        device_work._work(orin, "k", ["run"], use)  # type: ignore[arg-type]

    def failing(_: JobEnd | None) -> None:
        assert orin.asked == []
        raise OutOfSpace("the disk here is full")

    def damaged(found: JobEnd | None) -> None:
        assert found is not None
        device_work._read(float, found, "orin")

    orin = Orin({}, 1)
    work(orin, end)
    assert (used.pop(), orin.asked) == (end, ["mark"])
    orin = Orin({}, 1)
    with pytest.raises(OutOfSpace):
        work(orin, end, failing)
    assert orin.asked == []
    with pytest.raises(MissingDependency, match=r"orin: the result of the command is damaged there \(got nothing\)"):
        work(orin, end, damaged)
    assert orin.asked == ["mark"]
    orin = Orin({}, 1)
    bad = JobEnd(1, "", "ended", "edgeir: it is wrong.", "k", "t")
    with pytest.raises(CheckFailed, match="orin: it is wrong"):
        work(orin, bad)
    assert (used.pop(), orin.asked) == (bad, ["mark"])
    orin = Orin({}, 1)
    with pytest.raises(MissingDependency, match="was stopped"):
        work(orin, MissingDependency("the work was stopped"))
    assert (used.pop(), orin.asked) == (None, [])  # what it made before comes all the same
    with pytest.raises(Unreachable):
        work(orin, Unreachable("the connection broke"))
    assert used == []
    work(Orin({}, 0), end)  # it was shown: that it cannot be marked is no failure
    assert "The same command would show this result once more." in capsys.readouterr().err
