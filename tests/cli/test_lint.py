"""``edgeir lint``, and ``edgeir export --for`` which writes what lint asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
import pytest

from edgeir.bundle import Bundle


def test_a_bundle_is_clean_for_what_it_was_made_for(cli: Any, made_static: Path) -> None:
    for name in ("onnxruntime", "tensorrt-rtx-1.7", "tensorrt-11.4"):
        assert "Nothing found" in cli("lint", made_static, "--for", name).done().out


def test_what_would_break_is_listed_with_node_and_fix(cli: Any, made_static: Path) -> None:
    outcome = cli("lint", made_static / "model.onnx", "--for", "jetpack-6.0", "--json")
    outcome.sentence(1, "model.onnx", "TensorRT 8.6", "edgeir export --for")
    (findings,) = json.loads(outcome.out).values()
    function = next(finding for finding in findings if finding["rule"] == "function")
    assert "EdgeirGstAttention" in function["node"]
    assert function["module"].startswith("encoder_level1.0.attn")
    assert "export --for tensorrt-8.6" in function["fix"]
    text = cli("lint", made_static / "model.onnx", "--for", "jetpack-6.0")
    assert text.code == 1
    assert "Gelu" in text.out


def test_all_runtimes_at_once(cli: Any, made_static: Path) -> None:
    outcome = cli("lint", made_static, "--for", "all", "--json")
    outcome.sentence(1, "TensorRT 8.5, TensorRT 8.6")
    found = json.loads(outcome.out)
    broken = {name for name, findings in found.items() if any(entry["level"] == "error" for entry in findings)}
    assert broken == {"tensorrt-8.5", "tensorrt-8.6"}


def test_lint_says_first_what_onnx_runtime_refuses(cli: Any, made_static: Path, tmp_path: Path) -> None:
    import onnxruntime as ort

    model = onnx.load(made_static / "model.onnx")
    del model.functions[:]
    bare = tmp_path / "bare.onnx"
    onnx.save(model, bare)
    cli("lint", bare, "--for", "onnxruntime").sentence(1, "bare.onnx")
    with pytest.raises(Exception, match="EdgeirGstAttention"):
        ort.InferenceSession(str(bare))


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("a.onnx", b"", 2, ("not an ONNX file",)),
        ("a.onnx", b"certainly not protobuf \xff\xfe", 2, ("not an ONNX file",)),
        ("a.txt", b"x", 2, ("can't be linted", ".onnx")),
    ],
)
def test_bad_files(cli: Any, tmp_path: Path, name: str, content: bytes, code: int, words: tuple[str, ...]) -> None:
    (tmp_path / name).write_bytes(content)
    cli("lint", tmp_path / name, "--for", "onnxruntime").sentence(code, name, *words)


def test_bad_words(cli: Any, made_static: Path, tmp_path: Path) -> None:
    cli("lint", made_static, "--for", "tensorrt-10.2").sentence(2, "unknown runtime", "Did you mean")
    cli("lint", tmp_path / "nowhere", "--for", "onnxruntime").sentence(2, "no such file")


def test_export_writes_the_file_for_a_device(cli: Any, weights_file: Path, quick_trace: None, tmp_path: Path) -> None:
    path = tmp_path / "a.edgeir"
    arguments = ("--checkpoint", weights_file, "--size", "64x64", "--target", "ort", "--out", path)
    cli("export", *arguments, "--for", "jetpack-6.0", "--for", "tensorrt-10.3").done()
    bundle = Bundle.open(path)
    prepared = bundle.files("prepared")
    assert [file.name for file in prepared] == ["model.tensorrt-8.6.onnx", "model.tensorrt-10.3.onnx"]
    for file, name in zip(prepared, ("jetpack-6.0", "tensorrt-10.3"), strict=True):
        cli("lint", file, "--for", name).done()
    report = json.loads((path / "report.json").read_text())
    assert {"model.tensorrt-8.6.onnx", "model.onnx"} <= {row[0] for row in report["tables"][0]["rows"]}


def test_export_for_an_unknown_device(cli: Any, weights_file: Path, tmp_path: Path, unchanged: Any) -> None:
    with unchanged(tmp_path):
        cli("export", "--checkpoint", weights_file, "--for", "jetpack-6.3", "--out", tmp_path).sentence(
            2, "unknown runtime 'jetpack-6.3'", "Did you mean"
        )
