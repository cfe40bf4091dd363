"""Jobs on a Ray cluster: one trial per node at a time, so that a fleet of boards is one sweep.

Nodes of one kind (device and versions) share the trials of that kind; every kind gets all of them. A node runs its
trial in the same isolated process as one machine alone would. Files travel as Ray objects; edgeir is installed on every
node.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeir.errors import MissingDependency
from edgeir.storage import atomic_write_bytes
from edgeir.sweep.isolation import Limits
from edgeir.sweep.job import Job
from edgeir.sweep.ledger import PICTURES
from edgeir.sweep.local import this_machine
from edgeir.sweep.outcome import Outcome
from edgeir.sweep.running import Runner
from edgeir.sweep.trial import Machine

# What of a build is a path, and where the hash of what lies there stands.
_PLACES = {
    "plan": "plan_sha256",
    "calibration": "calibration_sha256",
    "bundle": "content_sha256",
    "checkpoint": "content_sha256",
}
_READY_S = 120.0  # a node that has its processors free starts an interpreter and imports edgeir in a few seconds
_LOOK_S = 0.5

Packed = Mapping[str, bytes]
"""What `pack` gives."""


class FleetExecutor:
    """Runs jobs on every node of a cluster that has processors.

    Args:
        address: of the cluster's head, ``"auto"`` for the one on this machine.
        folder: of the sweep, here; pictures come back to it.
        worker: as `edgeir.sweep.running.Runner` takes it.
        limits: likewise.

    Raises:
        MissingDependency: Ray is not installed, there is no cluster, or a node does not answer.
    """

    def __init__(self, address: str, folder: Path, worker: tuple[str, ...], limits: Limits) -> None:
        self._ray: Any = _connected(address)
        self._folder = folder
        self._packed: dict[str, Any] = {}
        strategy = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        remote = self._ray.remote(_Node)
        actors = [
            remote.options(
                num_cpus=node["Resources"]["CPU"], scheduling_strategy=strategy(node_id=node["NodeID"], soft=False)
            ).remote(worker, limits)
            for node in self._ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        ]
        try:
            machines = self._ray.get([actor.machine.remote() for actor in actors], timeout=_READY_S)
        except self._ray.exceptions.RayError as error:
            self._ray.shutdown()
            raise MissingDependency(
                "a node of the Ray cluster does not answer",
                where=address,
                got=str(error).splitlines()[0],
                fix="Every node needs edgeir installed, and all its processors free.",
            ) from error
        self._nodes: list[tuple[Any, Machine]] = list(zip(actors, machines, strict=True))

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The kinds of node, each once."""
        return tuple({machine.identity: machine for _, machine in self._nodes}.values())

    @property
    def width(self) -> int:
        """How many nodes there are."""
        return len(self._nodes)

    def run(
        self,
        jobs: Sequence[Job],
        *,
        may_start: Callable[[Job], bool],
        on_start: Callable[[Job], None],
        on_done: Callable[[Outcome], None],
    ) -> None:
        """As `edgeir.sweep.job.Executor.run`. A job whose node leaves the cluster goes to another of its kind."""
        left = deque(jobs)
        idle = list(self._nodes)
        running: dict[Any, tuple[Any, Machine, Job]] = {}
        while left or running:
            for node in list(idle):
                job = next((one for one in left if one.machine.identity == node[1].identity), None)
                if job is not None:
                    left.remove(job)
                    if may_start(job):
                        on_start(job)
                        idle.remove(node)
                        running[self._send(node[0], job)] = (*node, job)
            if not running:
                left = self._without_homeless(left, on_done)
                continue
            for answer in self._ray.wait(list(running), num_returns=1, timeout=_LOOK_S)[0]:
                actor, machine, job = running.pop(answer)
                try:
                    outcome, pictures = self._ray.get(answer)
                except self._ray.exceptions.RayActorError:
                    self._nodes = [node for node in self._nodes if node[0] is not actor]
                    left.appendleft(job)
                    continue
                except self._ray.exceptions.RayTaskError as error:
                    outcome, pictures = _lost(job, f"the node could not run it: {error.cause}", "failed"), {}
                idle.append((actor, machine))
                for name, png in pictures.items():
                    path = self._folder / PICTURES / job.key[:16] / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    atomic_write_bytes(path, png)
                on_done(outcome)

    def close(self) -> None:
        """Kill what runs, clear the nodes, and leave the cluster."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.get([actor.clear.remote() for actor, _ in self._nodes], timeout=5)
        for actor, _ in self._nodes:
            self._ray.kill(actor)
        self._ray.shutdown()

    def _send(self, actor: Any, job: Job) -> Any:
        """Begin a job on a node; each file is put into the cluster once."""
        places, digests = [], []
        for place, digest in _PLACES.items():
            path = getattr(job.trial.build, place)
            if path is not None:
                content = f"{place}-{getattr(job.trial.build, digest)[:16]}"
                if content not in self._packed:
                    self._packed[content] = self._ray.put(pack(Path(path)))
                places.append(place)
                digests.append(content)
        return actor.run.remote(job, places, digests, *(self._packed[content] for content in digests))

    def _without_homeless(self, left: deque[Job], on_done: Callable[[Outcome], None]) -> deque[Job]:
        """Jobs that a node is left for; of the others a row says that none is."""
        here = {machine.identity for _, machine in self._nodes}
        for job in left:
            if job.machine.identity not in here:
                on_done(_lost(job, "every node of its kind left the cluster", "crashed"))
        return deque(job for job in left if job.machine.identity in here)


class _Node:
    """What runs on a node, as a Ray actor that holds all its processors."""

    def __init__(self, worker: tuple[str, ...], limits: Limits) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="edgeir-sweep-"))
        self._runner = Runner(self._folder, worker, limits, threading.Event())

    def machine(self) -> Machine:
        return this_machine()

    def run(
        self, job: Job, places: Sequence[str], contents: Sequence[str], *packed: Packed
    ) -> tuple[Outcome, dict[str, bytes]]:
        here: dict[str, Any] = {}
        for place, content, files in zip(places, contents, packed, strict=True):
            here[place] = str(unpack(files, self._folder / "given" / content))
        trial = replace(job.trial, build=replace(job.trial.build, **here))
        outcome = self._runner.run(replace(job, trial=trial))
        shown = (self._folder / PICTURES / job.key[:16]).glob("*.png")
        return outcome, {path.name: path.read_bytes() for path in shown}

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def pack(path: Path) -> dict[str, bytes]:
    """A file under its name, or every file of a folder and those below it under ``./`` and its path there."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {f"./{file.relative_to(path).as_posix()}": file.read_bytes() for file in files}


def unpack(files: Packed, folder: Path) -> Path:
    """Write what `pack` read, once, into ``folder``; the path of the file or folder that was packed."""
    if not folder.is_dir():
        writing = Path(tempfile.mkdtemp(dir=_made(folder.parent)))
        for name, content in files.items():
            target = writing / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        writing.rename(folder)
    first = next(iter(files), "./")
    return folder if first.startswith("./") else folder / first


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lost(job: Job, reason: str, status: Any) -> Outcome:
    return Outcome(job.key, job.trial, job.settings, job.machine, job.rung, status, reason, 0.0, 0)


def _connected(address: str) -> ModuleType:
    """Ray, connected; our own answer to SIGTERM stays in place.

    Raises:
        MissingDependency: it is not installed, or there is no cluster.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingDependency(
            "a cluster needs Ray, which is not installed", where="--ray", fix="Run: pip install 'edgeir[fleet]'"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ours = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise MissingDependency(
            "there is no Ray cluster at this address",
            where=f"--ray {address}",
            got=(str(error).splitlines() or [type(error).__name__])[0],
            fix="Start one with 'ray start --head', and name the address it prints.",
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ours)
    return ray
