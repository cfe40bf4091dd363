"""Engine builds: real ones where TensorRT-RTX is installed, and every way a build process can end."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from edgeir.errors import BuildFailed, OutOfSpace
from edgeir.export.engines import builder
from edgeir.export.engines.builder import (
    build_engine,
    builder_targets,
    builder_version,
    can_build,
    target_for,
    target_here,
)
from edgeir.export.engines.target import BuildRequest, EngineTarget, Profile

Micro = Callable[..., Any]
Stub = Callable[[str], None]
ADA = EngineTarget("rtx", ("sm89",))
rtx = pytest.mark.skipif(not can_build("rtx"), reason="tensorrt_rtx is not installed: no engine can be built here")
posix = pytest.mark.skipif(os.name != "posix", reason="signals and shell scripts of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@rtx
def test_a_static_engine(micro: Micro, tmp_path: Path) -> None:
    path = tmp_path / "engine.plan"
    result = build_engine(ADA, micro("kgt", dynamic=False).path, path)
    assert names(tmp_path) == ["engine.plan"]
    assert result.bytes == path.stat().st_size > 100_000
    assert result.layers > 100
    assert 0 < result.seconds < 600
    assert (result.target, result.version.count(".")) == (ADA, 3)
    assert len(result.warnings) <= 20


@rtx
def test_a_dynamic_engine(micro: Micro, tmp_path: Path) -> None:
    network = micro("exda", dynamic=True)
    low, best, high = ((1, 3, *side) for side in ((32, 32), (32, 48), (96, 96)))
    result = build_engine(ADA, network.path, tmp_path / "engine.plan", profile=Profile("image", low, best, high))
    assert result.bytes == (tmp_path / "engine.plan").stat().st_size
    with pytest.raises(BuildFailed, match="the builder gave no engine"):
        build_engine(ADA, network.path, tmp_path / "without.plan")
    assert names(tmp_path) == ["engine.plan"]


@rtx
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('["lost/Thing"] restored = nobody.Knows(image)', "Knows"),
        ('["mixed/Mul"] half = Cast<to = 10>(image) ["mixed/Mul_2"] restored = Mul(image, half)', "mixed/Mul_2|float"),
    ],
)
def test_the_parser_says_what_it_refuses(tmp_path: Path, text: str, why: str) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20, "nobody": 1]> '
        f"g (float[1,3,8,8] image) => (float[1,3,8,8] restored) {{ {text} }}"
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BuildFailed, match=rf"^model\.onnx: .*rtx sm89 failed: the parser refuses the graph: .*({why})"):
        build_engine(ADA, path, tmp_path / "engine.plan")
    assert names(tmp_path) == ["model.onnx"]


@rtx
def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"garbage")
    with pytest.raises(BuildFailed, match="the parser refuses"):
        build_engine(ADA, path, tmp_path / "engine.plan")
    with pytest.raises(BuildFailed, match="No such file"):
        build_engine(ADA, tmp_path / "gone.onnx", tmp_path / "engine.plan")


@pytest.fixture
def stub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Puts a program of ours where the worker would run; ``request`` is what it was asked for."""
    folder = tmp_path_factory.mktemp("stub")

    def install(code: str) -> None:
        program, launcher = folder / "program.py", folder / "python"
        program.write_text(
            "import json, os, sys, time\nrequest = json.loads(sys.stdin.readline())\n" + textwrap.dedent(code)
        )
        launcher.write_text(f"#!/bin/sh\nulimit -c 0\nexec {shlex.quote(sys.executable)} {shlex.quote(str(program))}\n")
        launcher.chmod(0o755)
        monkeypatch.setattr(builder.sys, "executable", str(launcher))

    return install


GOOD_ANSWER = (
    'print("TensorRT says hello\\n" + json.dumps({"version": "1.2", "layers": 3, "seconds": 0.5, "bytes": 4, '
    '"warnings": ["w"], "kernels": ["edgeir::EdgeirKeyGraph"]}), flush=True)\n'
)
WRITE = 'open(request["engine_path"], "wb").write(b"plan")\n'


@posix
def test_a_good_answer(stub: Stub, tmp_path: Path) -> None:
    stub(WRITE + 'sys.stderr.buffer.write(b"\\xff\\xfe what the library says")\n' + GOOD_ANSWER)
    result = build_engine(ADA, tmp_path / "model.onnx", tmp_path / "engine.plan")
    assert (tmp_path / "engine.plan").read_bytes() == b"plan"
    assert result.kernels == ("edgeir::EdgeirKeyGraph",)
    assert names(tmp_path) == ["engine.plan"]
    assert (result.version, result.layers, result.seconds, result.bytes) == ("1.2", 3, 0.5, 4)
    assert result.warnings == ("w",)


@posix
def test_a_full_disk_is_not_a_failed_build(stub: Stub, tmp_path: Path) -> None:
    stub('print(json.dumps({"error": "No space left on device", "errno": 28})); sys.exit(1)')
    with pytest.raises(OutOfSpace, match="no room left"):
        build_engine(ADA, tmp_path / "model.onnx", tmp_path / "engine.plan")
    assert names(tmp_path) == []


@posix
@pytest.mark.parametrize(
    ("code", "why"),
    [
        (WRITE + "os.abort()", r"died of SIGABRT \(it said nothing\)"),
        (WRITE + 'print("double free", file=sys.stderr, flush=True); os.abort()', r"died of SIGABRT \(double free\)"),
        (WRITE + "os.kill(os.getpid(), 9)", "died of SIGKILL"),
        (WRITE + "os.kill(os.getpid(), 40)", "died of signal 40"),
        (WRITE + GOOD_ANSWER + "os.abort()", "died of SIGABRT"),
        (WRITE + GOOD_ANSWER + 'print("no such driver", file=sys.stderr); sys.exit(1)', "no such driver"),
        (WRITE + 'print(json.dumps({"error": "out of memory"})); sys.exit(1)', "out of memory"),
        (WRITE + 'print("{ not an answer")', "it said nothing"),
        (WRITE + "print(json.dumps([1]))", "it said nothing"),
        ("sys.stdout.close(); sys.exit(0)", "it said nothing"),
    ],
)
def test_a_worker_that_ends_badly_leaves_nothing(stub: Stub, tmp_path: Path, code: str, why: str) -> None:
    stub(code)
    old = tmp_path / "engine.plan"
    old.write_bytes(b"old")
    with pytest.raises(BuildFailed, match=f"the engine build for rtx sm89 failed: .*{why}") as caught:
        build_engine(ADA, tmp_path / "model.onnx", old)
    assert caught.value.exit_code == 4
    assert old.read_bytes() == b"old"
    assert names(tmp_path) == ["engine.plan"]


@posix
def test_a_worker_that_dies_before_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    launcher = tmp_path_factory.mktemp("dead") / "python"
    launcher.write_text("#!/bin/sh\nexec 0<&-\necho no module named edgeir >&2\nexit 7\n")
    launcher.chmod(0o755)
    monkeypatch.setattr(builder.sys, "executable", str(launcher))
    start = subprocess.Popen

    def start_and_wait(*args: Any, **kwargs: Any) -> Any:
        process = start(*args, **kwargs)
        process.wait()
        return process

    monkeypatch.setattr(builder.subprocess, "Popen", start_and_wait)
    with pytest.raises(BuildFailed, match="failed: no module named edgeir"):
        build_engine(ADA, tmp_path / "model.onnx", tmp_path / "engine.plan")


def is_running(pid: int) -> bool:
    """Whether the process lives; one that ended and waits for its parent to look does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes in /proc, which is Linux's")


@linux
def test_a_build_that_takes_too_long_is_killed(stub: Stub, tmp_path: Path) -> None:
    stub(WRITE + 'open(request["onnx_path"] + ".pid", "w").write(str(os.getpid()))\ntime.sleep(120)\n')
    with pytest.raises(BuildFailed, match=r"^model\.onnx: the engine build for rtx sm89 did not finish within 2 s"):
        build_engine(ADA, tmp_path / "model.onnx", tmp_path / "engine.plan", timeout_s=2)
    assert names(tmp_path) == ["model.onnx.pid"]
    assert not is_running(int((tmp_path / "model.onnx.pid").read_text()))


@linux
def test_a_build_does_not_outlive_its_parent(stub: Stub, tmp_path: Path) -> None:
    """The parent is killed outright, so nothing of its own can clean up: the worker must notice by itself."""
    pid_file = tmp_path / "model.onnx.pid"
    interpreter = sys.executable
    stub("""
        import threading
        from edgeir.export.engines.worker import _exit_with_parent
        threading.Thread(target=_exit_with_parent, daemon=True).start()
        open(request["onnx_path"] + ".part", "w").write(str(os.getpid()))
        os.rename(request["onnx_path"] + ".part", request["onnx_path"] + ".pid")
        time.sleep(120)
    """)
    parent = subprocess.Popen(
        [
            interpreter,
            "-c",
            "import sys; from pathlib import Path; sys.executable = sys.argv[1]\n"
            "from edgeir.export.engines.builder import build_engine, target_for\n"
            "build_engine(target_for('rtx'), Path(sys.argv[2]), Path(sys.argv[2] + '.plan'))",
            sys.executable,
            str(tmp_path / "model.onnx"),
        ]
    )
    try:
        assert wait_until(pid_file.exists)
        worker = int(pid_file.read_text())
        assert is_running(worker)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert wait_until(lambda: not is_running(worker))
    finally:
        parent.kill()
        parent.wait()


def test_can_build_asks_whether_the_package_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_build("tensorrt") == (importlib.util.find_spec("tensorrt") is not None)
    asked: list[str] = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: asked.append(name))
    assert not can_build("rtx")
    assert not can_build("tensorrt")
    assert asked == ["tensorrt_rtx", "tensorrt"]


def test_targets() -> None:
    assert target_for("rtx").architecture == "sm86-sm89-sm120"
    assert target_for("rtx").devices == "GeForce RTX 30, GeForce RTX 40, GeForce RTX 50"
    assert target_for("tensorrt").architectures == ("native",)
    assert ADA.label == "rtx sm89"


RTX_TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")


@pytest.mark.parametrize(
    ("present", "fp8", "built", "says"),
    [
        (None, False, "sm86-sm89-sm120", None),
        ("sm89", False, "sm86-sm89-sm120", None),
        ("sm75", False, "sm75", None),
        ("sm121", True, "sm121", None),
        (
            "sm90",
            False,
            "sm86-sm89-sm120",
            "TensorRT-RTX has no target for sm90: use --target and --backend tensorrt or",
        ),
        ("sm86", True, "sm89-sm120", "This machine's GPU (sm86) has no FP8: export with --int8 or --fp16 for it."),
        ("sm75", True, "sm89-sm120", "This machine's GPU (sm75) has no FP8"),
    ],
)
def test_the_target_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, present: str | None, fp8: bool, built: str, says: str | None
) -> None:
    monkeypatch.setattr(builder, "present_architecture", lambda: present)
    monkeypatch.setattr(builder, "builder_targets", lambda runtime: RTX_TARGETS)
    said: list[str] = []
    assert target_here("rtx", fp8=fp8, say=said.append).architecture == built
    assert target_here("tensorrt").architectures == (present or "native",)
    assert len(said) == (0 if says is None else 1)
    if says is not None:
        assert said[0].startswith(says)
        assert said[0].endswith("GeForce RTX 40, GeForce RTX 50.")


@rtx
def test_the_builder_says_what_it_builds_for() -> None:
    assert set(RTX_TARGETS) <= set(builder_targets("rtx"))
    assert not set(builder_targets("rtx")) & {"none", "current", "sm90"}
    assert builder_version("rtx").count(".") == 3


@rtx
def test_scratch_memory_may_shrink() -> None:
    """The name is a real one, and the real configuration takes it."""
    import tensorrt_rtx as trt

    from edgeir.export.engines.worker import let_memory_shrink

    feature = trt.PreviewFeature.RUNTIME_ACTIVATION_RESIZE_10_10
    config = trt.Builder(trt.Logger(trt.Logger.ERROR)).create_builder_config()
    config.set_preview_feature(feature, False)
    let_memory_shrink(trt, config)
    assert config.get_preview_feature(feature)


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_build_for_a_range_lets_it_shrink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dynamic: bool) -> None:
    """In the build itself, on a stand-in for a TensorRT whose default is off."""
    from edgeir.export.engines import worker

    asked: list[tuple[str, bool]] = []
    config = SimpleNamespace(
        add_optimization_profile=lambda profile: 0,
        set_preview_feature=lambda feature, on: asked.append((feature, on)),
    )
    maker = SimpleNamespace(
        create_network=lambda flags: SimpleNamespace(num_layers=1),
        create_builder_config=lambda: config,
        create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *shapes: None),
        build_serialized_network=lambda network, config: b"plan",
    )
    trt = SimpleNamespace(
        __version__="10.13.3",
        ILogger=type("ILogger", (), {}),
        Builder=lambda logger: maker,
        OnnxParser=lambda network, logger: SimpleNamespace(parse=lambda data: True),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        PreviewFeature=SimpleNamespace(RUNTIME_ACTIVATION_RESIZE_10_10="resize"),
    )
    monkeypatch.setattr(worker, "_import", lambda runtime: trt)
    (tmp_path / "model.onnx").write_bytes(b"graph")
    profile = Profile("image", (1, 3, 8, 8), (1, 3, 16, 16), (1, 3, 32, 32)) if dynamic else None
    ends = str(tmp_path / "model.onnx"), str(tmp_path / "engine.plan")
    assert worker.build(BuildRequest(EngineTarget("tensorrt", ("sm87",)), *ends, profile))["bytes"] == 4
    assert asked == ([("resize", True)] if dynamic else [])


@pytest.mark.parametrize("has", [False, True])
def test_builders_that_cannot_let_it_shrink(has: bool) -> None:
    from edgeir.export.engines.worker import let_memory_shrink

    older = SimpleNamespace(PreviewFeature=SimpleNamespace(PROFILE_SHARING_0806=0)) if has else SimpleNamespace()
    let_memory_shrink(older, None)  # no call that it does not have


@pytest.mark.parametrize("profile", [None, Profile("image", (1, 3, 8, 8), (1, 3, 16, 16), (1, 3, 32, 32))])
def test_a_request_crosses_the_border(profile: Profile | None) -> None:
    import json

    request = BuildRequest(target_for("rtx"), "/a/model.onnx", "/a/engine.plan.part", profile)
    assert BuildRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request
