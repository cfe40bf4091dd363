"""Jobs as the board runs them, without ssh: started once, followed from any byte, taken once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("boards are POSIX machines", allow_module_level=True)

from edgeir.errors import OutputError
from edgeir.remote import board_jobs
from edgeir.remote.board import inside, main

WaitFor = Callable[..., None]


def shell(text: str) -> list[str]:
    return ["sh", "-c", text]


def follow(root: Path, token: str, offset: int, capfdbinary: Any) -> tuple[dict[str, Any], bytes]:
    capfdbinary.readouterr()
    answer = board_jobs.follow(root, key="job", token=token, offset=offset)
    sys.stdout.flush()
    return answer, capfdbinary.readouterr().out


def test_a_job_from_start_to_end(tmp_path: Path, capfdbinary: Any) -> None:
    begun = board_jobs.start(tmp_path, key="job", command=shell("echo one >&2; echo result; echo two >&2; exit 3"))
    assert begun["found"] == "started"
    answer, log = follow(tmp_path, begun["token"], 0, capfdbinary)
    assert answer == {"state": "ended", "exit": 3}
    assert log == b"one\ntwo\n"
    assert follow(tmp_path, begun["token"], 4, capfdbinary)[1] == b"two\n"
    # Nobody has had it yet: the next call finds it, and does not start another.
    again = board_jobs.start(tmp_path, key="job", command=shell("exit 0"))
    assert again == {"token": begun["token"], "found": "ended"}
    assert board_jobs.read(tmp_path, key="job", token=begun["token"]) == {"output": "result\n"}
    assert board_jobs.start(tmp_path, key="job", command=shell("exit 0"))["found"] == "ended"  # read, and not taken yet
    board_jobs.mark(tmp_path, key="job", token="of another")
    assert board_jobs.start(tmp_path, key="job", command=shell("exit 0"))["found"] == "ended"
    board_jobs.mark(tmp_path, key="job", token=begun["token"])
    after = board_jobs.start(tmp_path, key="job", command=shell("exit 0"))
    assert after["found"] == "started"
    assert after["token"] != begun["token"]
    assert follow(tmp_path, begun["token"], 0, capfdbinary)[0] == {"state": "another"}
    assert board_jobs.read(tmp_path, key="job", token=begun["token"]) == {"output": None}
    assert follow(tmp_path, after["token"], 0, capfdbinary)[0] == {"state": "ended", "exit": 0}


def test_a_running_job_is_attached_to(tmp_path: Path, capfdbinary: Any, wait_for: WaitFor) -> None:
    first = board_jobs.start(
        tmp_path, key="job", command=shell("echo begun >&2; while [ ! -e go ]; do sleep 0.05; done")
    )
    second = board_jobs.start(tmp_path, key="job", command=shell("exit 9"))
    assert second == {"token": first["token"], "found": "running"}
    wait_for(lambda: (tmp_path / "jobs/job/log").read_bytes() == b"begun\n")
    (tmp_path / "go").touch()
    assert follow(tmp_path, first["token"], 0, capfdbinary)[0] == {"state": "ended", "exit": 0}


def test_a_job_outlives_who_started_it(tmp_path: Path, capfdbinary: Any) -> None:
    words = {"nonce": "x", "root": str(tmp_path), "key": "job", "command": shell("sleep 0.5; echo done >&2")}
    starter = subprocess.Popen(
        [sys.executable, "-m", "edgeir.remote.board", "start", json.dumps(words)],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert starter.stdout is not None
    answer = json.loads(starter.stdout.read().decode().split("edgeir-answer:x ")[1])
    starter.stdout.close()
    os.killpg(starter.pid, signal.SIGKILL) if starter.poll() is None else None
    starter.wait()
    assert follow(tmp_path, answer["token"], 0, capfdbinary) == ({"state": "ended", "exit": 0}, b"done\n")


def test_a_job_whose_processes_were_killed(tmp_path: Path, capfdbinary: Any, wait_for: WaitFor) -> None:
    begun = board_jobs.start(tmp_path, key="job", command=shell("echo $PPID >&2; sleep 60"))
    wait_for(lambda: (tmp_path / "jobs/job/log").read_bytes().endswith(b"\n"))
    wait_for(lambda: (tmp_path / "jobs/job/pid").is_file() and (tmp_path / "jobs/job/pid").read_bytes()[-1:] == b"\n")
    os.kill(int((tmp_path / "jobs/job/log").read_text()), signal.SIGKILL)  # what watches over it, as in a power cut
    os.killpg(int((tmp_path / "jobs/job/pid").read_text()), signal.SIGKILL)
    assert follow(tmp_path, begun["token"], 0, capfdbinary)[0]["state"] == "died"
    assert board_jobs.start(tmp_path, key="job", command=shell("exit 0"))["found"] == "started"


def test_a_program_that_is_not_there(tmp_path: Path, capfdbinary: Any) -> None:
    begun = board_jobs.start(tmp_path, key="job", command=["/no/such/program"])
    answer, log = follow(tmp_path, begun["token"], 0, capfdbinary)
    assert answer == {"state": "ended", "exit": 127}
    assert b"No such file" in log


def test_the_last_good_result(tmp_path: Path, capfdbinary: Any, wait_for: WaitFor) -> None:
    assert board_jobs.results(tmp_path, prefix="job") == {"output": None}
    for text in ("echo first", "echo second; exit 1"):
        begun = board_jobs.start(tmp_path, key="job", command=shell(text))
        follow(tmp_path, begun["token"], 0, capfdbinary)
        board_jobs.mark(tmp_path, key="job", token=begun["token"])
    assert board_jobs.results(tmp_path, prefix="job") == {"output": None}  # the second took the place of the first
    for key in ("job-c", "job-b"):
        begun = board_jobs.start(tmp_path, key=key, command=["echo", key])
        wait_for(lambda key=key: (tmp_path / f"jobs/{key}/exit").exists())  # type: ignore[misc]
    os.utime(tmp_path / "jobs/job-b/exit", (0, 0))  # the clock was set back between the two
    last = board_jobs.results(tmp_path, prefix="job")
    assert (last["output"], last["key"], last["command"]) == ("job-b\n", "job-b", ["echo", "job-b"])
    assert len(last["id"]) == 16
    assert board_jobs.results(tmp_path, prefix="job-c")["id"] == last["id"]
    (tmp_path / "id").unlink()
    assert board_jobs.results(tmp_path, prefix="job-c")["id"] != last["id"]


def test_old_jobs_are_forgotten(tmp_path: Path, wait_for: WaitFor) -> None:
    for index in range(board_jobs.KEPT_JOBS + 3):
        folder = tmp_path / "jobs" / f"old-{index:02d}"
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(json.dumps({"token": "t", "command": [], "number": index}))
        if index % 2:  # the others died
            (folder / "exit").write_text("0\n")
        os.utime(folder, (-index, -index))  # as boards date what they write before they know the time
    (tmp_path / "jobs" / "old-02" / "lock").touch()
    board_jobs.start(tmp_path, key="new", command=shell("exit 0"))
    wait_for(lambda: (tmp_path / "jobs/new/exit").exists())
    left = sorted(path.name for path in (tmp_path / "jobs").iterdir() if path.is_dir())
    assert len(left) == board_jobs.KEPT_JOBS
    assert left[:2] == ["new", "old-04"]


@pytest.mark.parametrize("folder", ["../x", ".", "a/../..", "/etc"])
def test_nothing_outside_of_the_folder_is_touched(tmp_path: Path, folder: str, capsys: Any) -> None:
    with pytest.raises(OutputError, match="out of edgeir's folder"):
        inside(tmp_path / "root", folder)
    code = main(["discard", json.dumps({"nonce": "n", "root": str(tmp_path / "root"), "folder": folder})])
    assert code == 1
    assert json.loads(capsys.readouterr().out.split("edgeir-answer:n ")[1])["error"]["kind"] == "OutputError"


def test_a_question_of_another_edgeir(tmp_path: Path, capsys: Any) -> None:
    assert main(["fly", json.dumps({"nonce": "n", "root": str(tmp_path)})]) == 1
    error = json.loads(capsys.readouterr().out.split("edgeir-answer:n ")[1])["error"]
    assert error["kind"] == "MissingDependency"
    assert "edgeir device add" in error["fix"]


def test_errors_of_the_system_are_sentences(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"nonce": "n", "root": str(tmp_path), "key": "a" * 300, "command": ["true"]}
    assert main(["start", json.dumps(words)]) == 1
    assert "name is too long" in json.loads(capsys.readouterr().out.split("edgeir-answer:n ")[1])["error"]["what"]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "jobs"))

    monkeypatch.setattr(board_jobs.secrets, "token_hex", full)
    assert main(["start", json.dumps({**words, "key": "a"})]) == 1
    error = json.loads(capsys.readouterr().out.split("edgeir-answer:n ")[1])["error"]
    assert (error["kind"], error["what"]) == ("OutOfSpace", "the disk of the device is full")
