"""``edgeir validate`` and ``edgeir bench``: formats, own pictures, exit codes."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest


@pytest.fixture
def measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure for the first command of a test; the others get the same figures."""
    from edgeir.cli import measuring, validation

    for name in ("check_parity", "check_drifts"):
        monkeypatch.setattr(validation, name, _once(getattr(measuring, name)))


def _once(measure: Callable[..., Any]) -> Callable[..., Any]:
    results: list[Any] = []

    def measured(*arguments: Any, **options: Any) -> Any:
        if not results:
            results.append(measure(*arguments, **options))
        return results[0]

    return measured


def test_formats(cli: Any, weights_file: Path, made_static: Path, measured_once: None) -> None:
    arguments = ("validate", made_static, "--checkpoint", weights_file, "--pictures", 1)
    outputs = {}
    for form in ("text", "json", "markdown", "html", "junit"):
        outcome = cli(*arguments, "--format", form).done()
        assert "UNTRAINED" in outcome.out, form
        assert "is UNTRAINED" in outcome.err, form
        outputs[form] = outcome.out
    assert cli(*arguments).done().out.splitlines()[0] == outputs["text"].splitlines()[0]
    value = json.loads(outputs["json"])
    assert value["passed"] is True
    names = " ".join(check["name"] for check in value["checks"])
    assert "reference.onnx" in names
    assert "model.onnx" in names
    assert json.loads(cli(*arguments, "--json").done().out)["checks"] == value["checks"]
    root = ET.fromstring(outputs["junit"])
    assert len(root.findall(".//testcase")) == len(value["checks"]) >= 5
    assert root.findall(".//failure") == []
    assert outputs["html"].lstrip().lower().startswith("<!doctype html>")
    page = re.sub(r"<script>.*?</script>", "", outputs["html"], flags=re.DOTALL)  # Plotly's own, which may not fetch
    assert 'http-equiv="Content-Security-Policy" content="default-src ' in page
    assert "http://" not in page
    assert "https://" not in page
    assert outputs["markdown"].startswith("#")
    assert "|" in outputs["markdown"]


def test_every_shape_of_a_dynamic_bundle(cli: Any, weights_file: Path, made_dynamic: Path) -> None:
    outcome = cli("validate", made_dynamic, "--checkpoint", weights_file, "--pictures", 1, "--json").done()
    names = " ".join(check["name"] for check in json.loads(outcome.out)["checks"])
    assert "64x64" in names
    assert "128x128" in names
    assert "80x112" in names


def test_own_pictures(cli: Any, weights_file: Path, made_static: Path, scene: Any, tmp_path: Path) -> None:
    scene(50, 90).save(tmp_path / "mine.png")
    (tmp_path / "notes.txt").write_text("x")
    outcome = cli("validate", made_static, "--checkpoint", weights_file, "--images", tmp_path, "--json").done()
    assert "1 files" in outcome.err
    assert "mine.png" in outcome.out


def test_a_failed_check(
    cli: Any, weights_file: Path, made_static: Path, measured_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeir.compare import gates
    from edgeir.precision import Precision

    strict = dataclasses.replace(gates.GATES[Precision.FP16], fidelity_db=300.0)
    monkeypatch.setitem(gates.GATES, Precision.FP16, strict)
    arguments = ("validate", made_static, "--checkpoint", weights_file, "--pictures", 1)
    outcome = cli(*arguments, "--format", "junit")
    outcome.sentence(1, "checks failed", "fidelity")
    assert len(ET.fromstring(outcome.out).findall(".//failure")) == 4  # parity of both, and both engines under drift
    outcome = cli(*arguments, "--json")
    outcome.sentence(1)
    assert json.loads(outcome.out)["passed"] is False


# arguments after the bundle, words of the sentence
REFUSED = {
    "unknown format": (("validate", "--format", "jsno"), ("'jsno'", "Did you mean 'json'?")),
    "unknown reference": (("validate", "--reference", "onx"), ("'onx'", "Did you mean 'onnx'?")),
    "no weights": (("validate", "--pictures", "1"), ("--checkpoint FILE",)),
    "no pictures": (("validate", "--checkpoint", "micro", "--pictures", "0"), ("got 0",)),
    "too many pictures": (("validate", "--checkpoint", "micro", "--pictures", "999"), ("got 999",)),
    "folder without pictures": (("validate", "--checkpoint", "micro", "--images", "."), ("no picture in this folder",)),
    "missing folder": (("validate", "--checkpoint", "micro", "--images", "gone"), ("gone", "no such folder")),
    "other weights": (("validate", "--checkpoint", "other.safetensors"), ("not the weights", "made from")),
    "no rounds": (("bench", "--rounds", "0"), ("rounds",)),
    "no processor": (("bench", "--cpus", "9999"), ("--cpus", "may not use")),
    "no list of processors": (("bench", "--cpus", "3-1"), ("--cpus", "'3-1'", "0,2-3")),
    "unknown baseline": (("bench", "--against", "trch"), ("'trch'", "Did you mean 'torch'?")),
    "baseline without weights": (("bench", "--against", "torch"), ("--checkpoint FILE",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(
    cli: Any, weights_file: Path, made_static: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    from edgeir.models.build import build_seeded, describe
    from edgeir.models.checkpoint import load_checkpoint, save_checkpoint

    (command, *arguments), words = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    if case == "other weights":
        config = load_checkpoint(weights_file).spec.config
        other = build_seeded("exda", config, seed=8)
        save_checkpoint("other.safetensors", other, describe("exda-custom", "exda", config, None))
    outcome = cli(command, made_static, *(weights_file if part == "micro" else part for part in arguments))
    outcome.sentence(2, *words)
    assert outcome.out == ""


def test_bench(cli: Any, weights_file: Path, made_static: Path) -> None:
    outcome = cli("bench", made_static, "--checkpoint", weights_file, "--rounds", 2, "--json").done()
    value = json.loads(outcome.out)
    (table,) = [table for table in value["tables"] if table["title"] == "Latency"]
    rows = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}
    assert set(rows) == {"ort", "torch"}
    for row in rows.values():
        assert 0 < row["p50 ms"] <= row["p90 ms"] <= row["p99 ms"]
        assert row["pictures/s"] == pytest.approx(1e3 / row["p50 ms"])
        assert 10 < row["peak MiB"] < 100_000
    assert rows["ort"]["speed vs torch"] > 0
    assert rows["ort"]["fidelity dB"] > 55
    assert rows["torch"]["speed vs torch"] == 1
    assert rows["ort"]["95 % interval"] is None
    assert any("Too few rounds" in note for note in value["notes"])
    (stages,) = [table for table in value["tables"] if table["title"] == "Where one picture's time goes"]
    names = [row[0] for row in stages["rows"]]
    assert names == ["decode the file", "pad, lay out, blend", "execute", "encode the file"]
    assert sum(row[2] for row in stages["rows"]) == pytest.approx(100, abs=0.3)
    assert "UNTRAINED" in value["summary"]


def test_bench_without_a_baseline(cli: Any, made_static: Path) -> None:
    for arguments in (("--against", "none"), ()):  # without the checkpoint there is nothing to compare with
        outcome = cli("bench", made_static, "--rounds", 1, "--no-memory", *arguments, "--json").done()
        (table,) = [table for table in json.loads(outcome.out)["tables"] if table["title"] == "Latency"]
        assert [row[0] for row in table["rows"]] == ["ort"]


def test_bench_against_a_plain_export_on_chosen_processors(cli: Any, weights_file: Path, made_static: Path) -> None:
    import os

    allowed = os.sched_getaffinity(0)
    one = min(allowed)
    arguments = ("--against", "plain-onnx", "--checkpoint", weights_file, "--rounds", 6, "--no-memory", "--cpus", one)
    try:
        value = json.loads(cli("bench", made_static, *arguments, "--json").done().out)
    finally:
        os.sched_setaffinity(0, allowed)
    (table,) = [table for table in value["tables"] if table["title"] == "Latency"]
    rows = {row[0]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}
    assert set(rows) == {"ort", "plain-onnx"}
    low, high = map(float, rows["ort"]["95 % interval"].split(" to "))
    assert low - 0.01 <= rows["ort"]["speed vs plain-onnx"] <= high + 0.01
    assert rows["ort"]["fidelity dB"] > 55
    assert "a plain export in onnxruntime" in value["summary"]
    facts = {fact["label"]: fact["value"] for fact in value["facts"]}
    assert facts["processors"] == str(one)
    noisy = "TOO NOISY" in value["summary"]
    assert any("TOO NOISY" in note for note in value["notes"]) is noisy


def test_bench_against_a_compiled_network(
    cli: Any, weights_file: Path, made_static: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler itself takes a minute: another one of PyTorch's stands in for it."""
    import torch

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compile_(module, backend="eager"))
    arguments = ("--against", "torch-compile", "--checkpoint", weights_file, "--rounds", 1, "--no-memory")
    value = json.loads(cli("bench", made_static, *arguments, "--json").done().out)
    (table,) = [table for table in value["tables"] if table["title"] == "Latency"]
    assert [row[0] for row in table["rows"]] == ["ort", "torch-compile"]
    assert "compiled CPU" in table["rows"][1][1]


CONTRACT = {
    "met": ("quality: {fidelity_db: 40, ssim: 0.9}\nmemory: {bundle_mb: 500}", 0, ()),
    "not met": ("quality: {fidelity_db: 200}", 1, ("contract: worst fidelity", "at least 200 dB", "plan.yaml")),
    "too slow": ("latency: {p95_ms: 0.000001}", 1, ("contract: p95 latency", "at most 1e-06 ms", "edgeir sweep")),
    "unknown key": ("quality: {fidelty_db: 40}", 2, ("unknown key 'fidelty_db'", "Did you mean 'fidelity_db'?")),
    "no limit": ("about: nothing", 2, ("the contract states no limit",)),
    "not YAML": ("quality: [", 2, ("the contract is not YAML", "contract.yaml:")),
    "untrained": ("quality: {mean_drift_db: 0.1}", 2, ("mean_drift_db cannot be judged", "untrained")),
    "not a limit": ("quality: {ssim: 2}", 2, ("quality.ssim", "less than or equal to 1")),
}


@pytest.mark.parametrize("case", CONTRACT)
def test_contract(
    cli: Any, weights_file: Path, made_static: Path, measured_once: None, tmp_path: Path, case: str
) -> None:
    text, code, words = CONTRACT[case]
    (tmp_path / "contract.yaml").write_text(text, encoding="utf-8")
    options = ("--checkpoint", weights_file, "--pictures", 1, "--contract", tmp_path / "contract.yaml", "--json")
    outcome = cli("validate", made_static, *options)
    if code:
        outcome.sentence(code, *words)
    else:
        names = [check["name"] for check in json.loads(outcome.done().out)["checks"]]
        assert [name for name in names if name.startswith("contract: ") and name.count(",") == 0] == [
            "contract: worst fidelity",
            "contract: worst SSIM",
            "contract: size of the bundle",
        ]
        assert not any(name.startswith("mean drift") for name in names)


def test_a_bundle_against_itself_is_no_difference(cli: Any, weights_file: Path, made_static: Path) -> None:
    options = ("--checkpoint", weights_file, "--pictures", 5, "--against", made_static, "--json")
    value = json.loads(cli("validate", made_static, *options).done().out)
    (table,) = [table for table in value["tables"] if table["title"].startswith("Against ")]
    assert len(table["rows"]) == 12  # all, and eleven degradations
    assert {row[1] for row in table["rows"]} == {0}
    assert {row[3] for row in table["rows"]} == {"no difference found"}
    assert "no difference found: +0.0000 dB" in value["summary"]


def test_without_pytorch_and_the_onnx_tools(cli: Any, made_static: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device: reference.onnx is the reference, and what runs here is what is judged."""
    import importlib.util

    present = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else present(name))
    cli("validate", made_static, "--pictures", 1).sentence(3, "needs torch", "pip install", "--reference onnx")
    for name in ("edgeir.calibrate.rounded", "edgeir.models.rebuild", "edgeir.runtime.torch_session"):
        monkeypatch.setitem(sys.modules, name, None)
    value = json.loads(cli("validate", made_static, "--reference", "onnx", "--pictures", 1, "--json").done().out)
    titles = [table["title"] for table in value["tables"]]
    assert titles == ["Engines that run here", "Drift per degradation", "Look"]
    (engines,) = [table for table in value["tables"] if table["title"] == "Engines that run here"]
    assert [row[0] for row in engines["rows"]] == ["model.onnx as it runs here"]
    assert value["facts"][0]["value"].startswith("reference.onnx in onnxruntime")
    assert any("PyTorch took no part" in note for note in value["notes"])
    assert any("Not rounded" in note for note in value["notes"])


def test_with_reference_onnx_the_engine_is_still_rounded(cli: Any, made_static: Path) -> None:
    value = json.loads(cli("validate", made_static, "--reference", "onnx", "--pictures", 1, "--json").done().out)
    (engines,) = [table for table in value["tables"] if table["title"] == "Engines that run here"]
    assert [row[0] for row in engines["rows"]] == ["model.onnx", "model.onnx as it runs here"]
    assert not any("Not rounded" in note for note in value["notes"])


def test_against_is_refused_where_it_could_say_nothing(
    cli: Any, weights_file: Path, made_static: Path, made_dynamic: Path
) -> None:
    options = ("--checkpoint", weights_file, "--against")
    cli("validate", made_static, *options, made_static, "--pictures", 4).sentence(2, "too few pictures", "5 or more")
    cli("validate", made_static, *options, made_dynamic).sentence(2, "different sizes", "same --size")
