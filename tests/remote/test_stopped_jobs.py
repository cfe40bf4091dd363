"""Jobs that somebody ends, jobs on a full disk, and what is said of a job at the moment it begins or ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("boards are POSIX machines", allow_module_level=True)

from edgeir.errors import UsageError
from edgeir.remote import board_jobs
from edgeir.remote.board import discard

KEY = "build-a b.edgeir-01234567-89abcdef"


WaitFor = Callable[..., None]


def shell(text: str) -> list[str]:
    return ["sh", "-c", text]


def log_of(root: Path, key: str = KEY) -> bytes:
    return (root / "jobs" / key / "log").read_bytes()


def test_stop(tmp_path: Path, wait_for: WaitFor) -> None:
    begun = board_jobs.start(
        tmp_path, key=KEY, command=shell("trap 'echo asked >&2; exit 1' TERM; echo up >&2; sleep 60 & wait")
    )
    wait_for(lambda: log_of(tmp_path) == b"up\n")
    (job,) = board_jobs.running(tmp_path, name="a b.edgeir")["jobs"]
    assert (job["key"], job["command"][0]) == (KEY, "sh")
    assert board_jobs.running(tmp_path)["jobs"] == [job]
    assert board_jobs.running(tmp_path, name="b.edgeir")["jobs"] == []
    assert board_jobs.stop(tmp_path, keys=[KEY, "of nobody"]) == {"left": []}
    assert log_of(tmp_path) == b"up\nasked\n"
    assert board_jobs.running(tmp_path)["jobs"] == []
    assert board_jobs.follow(tmp_path, key=KEY, token=begun["token"], offset=9) == {"state": "stopped"}
    # Nobody needs to take what was stopped: the same command starts anew.
    again = board_jobs.start(tmp_path, key=KEY, command=shell("exit 0"))
    assert again["found"] == "started"
    assert board_jobs.follow(tmp_path, key=KEY, token=again["token"], offset=0) == {"state": "ended", "exit": 0}
    with pytest.raises(UsageError):
        board_jobs.stop(tmp_path, keys=["../../etc"])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("trap '' TERM; sleep 60 & echo $! >&2; wait; sleep 60", -signal.SIGKILL),
        ("(trap '' TERM; exec sleep 60) & echo $! >&2; wait", -signal.SIGTERM),  # only its child does not listen
    ],
)
def test_a_job_that_does_not_listen(tmp_path: Path, text: str, code: int, wait_for: WaitFor) -> None:
    """What watches over it is made here, so that it waits less; a child of the same group goes as well."""
    folder = tmp_path / "jobs" / KEY
    folder.mkdir(parents=True)
    (folder / "log").touch()
    (folder / "job.json").write_text(json.dumps({"token": "t", "command": shell(text), "number": 1}))
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    program = (
        "import sys; from pathlib import Path; from edgeir.remote import board_jobs; board_jobs._ENDS_WITHIN_S = 0.3; "
        "board_jobs.supervise(Path(sys.argv[1]), key=sys.argv[2], lock=int(sys.argv[3]))"
    )
    watch = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), KEY, str(lock)], pass_fds=(lock,))
    os.close(lock)
    wait_for(lambda: log_of(tmp_path).endswith(b"\n"))
    assert board_jobs.stop(tmp_path, keys=[KEY]) == {"left": []}
    assert watch.wait(20) == 0
    assert int((folder / "exit").read_text()) == code
    wait_for(lambda: _is_gone(int(log_of(tmp_path))))


def _is_gone(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1] in ("", "Z")


def test_a_job_that_ended_well_before_it_was_stopped(tmp_path: Path, wait_for: WaitFor) -> None:
    begun = board_jobs.start(tmp_path, key=KEY, command=shell("exit 0"))
    wait_for(lambda: (tmp_path / "jobs" / KEY / "exit").exists())
    (tmp_path / "jobs" / KEY / "stop").touch()
    assert board_jobs.follow(tmp_path, key=KEY, token=begun["token"], offset=0) == {"state": "ended", "exit": 0}


def test_an_end_that_is_written_while_somebody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "jobs" / KEY
    folder.mkdir(parents=True)
    (folder / "job.json").write_text('{"token": "t", "command": [], "number": 1}')
    (folder / "log").touch()

    def at_that_moment(path: Path) -> bool:
        (path / "exit").write_text("0\n")
        return False

    monkeypatch.setattr(board_jobs, "is_running", at_that_moment)
    assert board_jobs.follow(tmp_path, key=KEY, token="t", offset=0) == {"state": "ended", "exit": 0}


def test_a_job_runs_from_the_moment_it_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its own Python takes to begin: the lock is handed over."""
    real = subprocess.Popen
    seen = []

    def slow(command: list[str], **how: Any) -> Any:
        code = f"import time; time.sleep(0.5); {command[2]}"
        process = real([command[0], "-c", code, *command[3:]], **how)
        seen.append(board_jobs.is_running(tmp_path / "jobs" / KEY))
        return process

    monkeypatch.setattr(board_jobs.subprocess, "Popen", slow)
    begun = board_jobs.start(tmp_path, key=KEY, command=shell("exit 0"))
    assert board_jobs.is_running(tmp_path / "jobs" / KEY)
    assert board_jobs.follow(tmp_path, key=KEY, token=begun["token"], offset=0) == {"state": "ended", "exit": 0}
    assert seen == [True]


def test_two_who_ask_do_not_take_each_other_for_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lock").touch()
    real = fcntl.flock
    answers: list[bool] = []

    def asked_meanwhile(handle: int, how: int) -> None:
        real(handle, how)
        monkeypatch.setattr(fcntl, "flock", real)
        answers.append(board_jobs.is_running(tmp_path))  # while the other one holds the lock to find out

    monkeypatch.setattr(fcntl, "flock", asked_meanwhile)
    assert not board_jobs.is_running(tmp_path)
    assert answers == [False]
    with (tmp_path / "lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert board_jobs.is_running(tmp_path)


def test_the_disk_fills_up_while_a_job_runs(tmp_path: Path) -> None:
    """Room was kept for how it ended."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here ({mounted.stderr.strip()}): no full disk is played")
    try:
        fill = "echo begun >&2; head -c 4000000 /dev/zero > fill 2>/dev/null; exit 3"
        begun = board_jobs.start(tmp_path, key=KEY, command=shell(fill))
        end = board_jobs.follow(tmp_path, key=KEY, token=begun["token"], offset=0)
        assert end == {"state": "ended", "exit": 3}
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_job_that_left_nothing_says_how_full_the_disk_is(tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / KEY
    folder.mkdir(parents=True)
    (folder / "job.json").write_text('{"token": "t", "command": [], "number": 1}')
    for name in ("log", "lock"):
        (folder / name).touch()
    end = board_jobs.follow(tmp_path, key=KEY, token="t", offset=0)
    assert end["state"] == "died"
    assert end["free_bytes"] > 0


def test_pictures_of_a_running_job_are_not_removed(tmp_path: Path, wait_for: WaitFor) -> None:
    place = tmp_path / "runs" / KEY
    (place / "in").mkdir(parents=True)
    begun = board_jobs.start(tmp_path, key=KEY, command=shell("while [ ! -e go ]; do sleep 0.05; done"))
    assert discard(tmp_path, folder=f"runs/{KEY}") == {"left": True}
    assert (place / "in").is_dir()
    (tmp_path / "go").touch()
    board_jobs.follow(tmp_path, key=KEY, token=begun["token"], offset=0)
    wait_for(lambda: not board_jobs.is_running(tmp_path / "jobs" / KEY))
    assert discard(tmp_path, folder=f"runs/{KEY}") == {"left": False}
    assert not place.exists()
    (tmp_path / "id").touch()
    assert discard(tmp_path, folder="id") == {"left": False}
    assert not (tmp_path / "id").exists()


def test_what_nobody_came_back_for(tmp_path: Path) -> None:
    old = time.time() - board_jobs.KEPT_S - 60
    for name, date in (("runs/old", old), ("runs/new", None), (f"runs/{KEY}", old), ("incoming/old.edgeir", old)):
        (tmp_path / name / "in").mkdir(parents=True)
        (tmp_path / name / "in" / "a.png").touch()
        for path in (tmp_path / name / "in" / "a.png", tmp_path / name / "in", tmp_path / name):
            os.utime(path, None if date is None else (date, date))
    begun = board_jobs.start(tmp_path, key=KEY, command=shell("exit 0"))
    board_jobs.follow(tmp_path, key=KEY, token=begun["token"], offset=0)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [KEY, "new"]
    assert not list((tmp_path / "incoming").iterdir())
