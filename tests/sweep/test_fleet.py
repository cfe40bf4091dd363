"""A sweep on a real Ray cluster of two nodes, both on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgeir.errors import MissingDependency
from edgeir.sweep import fleet
from edgeir.sweep.campaign import run_campaign
from edgeir.sweep.fleet import FleetExecutor, pack, unpack
from edgeir.sweep.isolation import Limits
from edgeir.sweep.ledger import Ledger, read_rows
from edgeir.sweep.trial import Settings, Trial


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head and one more node, a processor each."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'edgeir[fleet]'")
    pytest.importorskip("psutil", reason="psutil is not installed: no sweep can run here")
    from ray.cluster_utils import Cluster

    # Sockets lie in Ray's folder, and the path of a socket has 107 bytes at most: pytest's own folders are too deep.
    with (
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        settings = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=settings)
        try:
            made.add_node(num_cpus=1, object_store_memory=100 << 20)
            made.wait_for_nodes()
            yield made
        finally:
            made.shutdown()


@pytest.mark.slow
def test_both_nodes_work(
    cluster: Any, tmp_path: Path, worker: tuple[str, ...], watcher: Any, trial: Callable[..., Trial]
) -> None:
    plan, pictures = tmp_path / "plan.yaml", tmp_path / "pictures"
    plan.write_text("plan")
    pictures.mkdir()
    (pictures / "a.png").write_bytes(b"png")
    names = ["one", "two", "three", "four", "abort", "unbuildable"]
    files = {"plan": str(plan), "plan_sha256": "1" * 64, "calibration": str(pictures), "calibration_sha256": "2" * 64}
    trials = [trial(name, **files) for name in names]
    executor = FleetExecutor(cluster.address, tmp_path / "out", (*worker, "0.3"), Limits(60, 1 << 30))
    try:
        assert executor.width == 2
        assert len(executor.machines) == 1, "two nodes of one machine are of one kind"
        with Ledger(tmp_path / "out") as ledger:
            campaign = run_campaign(trials, Settings(2, 9), executor, ledger, watcher=watcher)
            again = run_campaign(trials, Settings(2, 9), executor, ledger, watcher=watcher)
    finally:
        executor.close()
    rows = {row.trial.build.name: row for row in read_rows(tmp_path / "out")}
    assert {name: row.status for name, row in rows.items()} == {
        **dict.fromkeys(names, "ok"),
        "abort": "crashed",
        "unbuildable": "failed",
    }
    places = {row.figures["place"] for row in rows.values() if row.ok}
    assert len(places) == 2, "one node did all the work"
    assert not any(Path(place).exists() for place in places), "a node kept its folder"
    times = sorted((row.figures["began"], row.figures["ended"]) for row in rows.values() if row.ok)
    assert all(ended <= began for (_, ended), (began, _) in pairwise(times)), "measured side by side"
    assert rows["one"].machine == executor.machines[0]
    assert len(campaign.rows) == 6
    assert again.skipped == 6


@pytest.mark.slow
def test_a_node_that_leaves(
    cluster: Any, tmp_path: Path, worker: tuple[str, ...], watcher: Any, trial: Callable[..., Trial]
) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    executor = FleetExecutor(cluster.address, tmp_path, (*worker, "0.5"), Limits(60, 1 << 30))
    trials = [trial(f"m{index}") for index in range(6)]
    remember = watcher.end

    def end(outcome: Any) -> None:
        remember(outcome)
        if len(watcher.ended) == 1:
            cluster.remove_node(node, allow_graceful=False)

    watcher.end = end
    try:
        assert executor.width == 3
        with Ledger(tmp_path) as ledger:
            run_campaign(trials, Settings(2, 9), executor, ledger, watcher=watcher)
        assert executor.width == 2
    finally:
        executor.close()
    rows = read_rows(tmp_path)
    assert [row.status for row in rows] == ["ok"] * 6, [row.reason for row in rows]
    assert len({row.key for row in rows}) == 6


def test_files_travel(tmp_path: Path) -> None:
    folder = tmp_path / "b.edgeir"
    (folder / "engines").mkdir(parents=True)
    (folder / "engines" / "a.plan").write_bytes(b"plan")
    (folder / "manifest.json").write_bytes(b"{}")
    there = unpack(pack(folder), tmp_path / "given" / "b")
    assert sorted(path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()) == [
        "engines/a.plan",
        "manifest.json",
    ]
    assert unpack(pack(folder), tmp_path / "given" / "b") == there
    file = unpack(pack(folder / "manifest.json"), tmp_path / "given" / "c")
    assert (file.name, file.read_bytes()) == ("manifest.json", b"{}")
    (folder / "manifest.json").unlink()
    assert unpack(pack(folder), tmp_path / "given" / "d") == tmp_path / "given" / "d", "a folder with one file"
    assert [path.name for path in (tmp_path / "given").iterdir() if path.name.startswith("tmp")] == []


def test_without_ray(tmp_path: Path, worker: tuple[str, ...], limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"needs Ray, which is not installed.*pip install 'edgeir\[fleet\]'"):
        FleetExecutor("auto", tmp_path, worker, limits)


def test_a_trial_keeps_its_key_when_its_files_lie_elsewhere(trial: Callable[..., Trial]) -> None:
    here = trial(plan="/here/plan.yaml", plan_sha256="1" * 64)
    assert replace(here, build=replace(here.build, plan="/there/plan.yaml")) == here
