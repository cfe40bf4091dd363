"""Kernels ahead of time: PTX and launches, and the same source in the emulator with TensorRT's arguments."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeir.errors import BuildFailed, BundleError, MissingDependency, UsageError
from edgeir.ops import table, toolchain
from edgeir.ops.reference import key_graph, key_graph_attention
from edgeir.ops.tensorrt import ahead
from edgeir.ops.tensorrt.ahead import AHEAD, AheadKernel, Baked, baked, compile_ahead, from_json, to_json
from edgeir.runtime.cuda_driver import CudaDevice, Launch

EMULATOR = Path(__file__).parents[1] / "cuda"
ARCHITECTURES = ("80", "87", "89", "90", "110", "120")
GRAPH = Baked(table.KEY_GRAPH.name, "float16", (("N", 64), ("C", 20), ("K", 9)))
ATTENTION = Baked(table.KEY_GRAPH_ATTENTION.name, "float16", (("HEADS", 3), ("N", 70), ("D", 30)))
WIDE = Baked(table.KEY_GRAPH_ATTENTION.name, "float32", (("HEADS", 2), ("N", 33), ("D", 7)))


@pytest.fixture(scope="module")
def nvcc() -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on this machine: no PTX is made")


def test_what_is_compiled_in() -> None:
    shapes = [[None, 64, 20]]
    assert baked(table.KEY_GRAPH.name, shapes, {"k": 9}, "float16") == GRAPH
    assert GRAPH.name == "edgeir_keygraph_n64_c20_k9_float16"
    rows = [[None, 3, 70, 30]] * 3 + [[None, 70, 70], [3, 70, 70], [3, 1, 1]]
    assert baked(table.KEY_GRAPH_ATTENTION.name, rows, {}, "float16") == ATTENTION
    for name, op in AHEAD.items():
        known = table.fused_op(name)
        assert known is not None
        assert set(op.attributes.values()) == {attribute.name for attribute in known.attributes}
        for tensor, axis in op.sizes.values():
            assert axis < len(known.inputs[tensor].axes)
            assert (tensor, axis) != (0, 0)  # the windows are the grid's
        assert known.inputs[0].axes[0] == "windows"


def test_what_cannot_be_compiled_in() -> None:
    with pytest.raises(
        UsageError, match=r"'EdgeirGstAttention' is more than one kernel: only the plugin library has it"
    ):
        baked(table.GST_ATTENTION.name, [], {}, "float16")
    with pytest.raises(UsageError, match=r"axis 1 of input 0 of EdgeirKeyGraph is not fixed.*Export without --dynamic"):
        baked(table.KEY_GRAPH.name, [[4, None, 20]], {"k": 9}, "float16")
    with pytest.raises(UsageError, match=r"for so many windows .expected at most 65535, got 65536.*in tiles"):
        baked(table.KEY_GRAPH.name, [[65536, 64, 20]], {"k": 9}, "float16")
    with pytest.raises(UsageError, match=r"no EdgeirKeyGraph ahead of time in bfloat16 .expected float16 or float32"):
        baked(table.KEY_GRAPH.name, [[4, 64, 20]], {"k": 9}, "bfloat16")


@pytest.mark.parametrize("of", [GRAPH, ATTENTION, WIDE], ids=lambda of: of.name)
def test_ptx_and_its_launch(of: Baked, nvcc: None, tmp_path: Path) -> None:
    """The parameters are TensorRT's: addresses of inputs, then of the output; ptxas reads the text for every device."""
    made = compile_ahead(of)
    op = table.fused_op(of.op)
    assert op is not None
    entry = re.search(rf"\.visible \.entry {of.name}\(([^)]*)\)\s*\.maxntid (\d+), 1, 1", made.ptx)
    assert entry is not None
    parameters = re.findall(r"\.param (\.\w+)", entry.group(1))
    assert set(parameters) == {".u64"}
    assert len(parameters) == len(op.inputs) + 1
    assert int(entry.group(2)) == made.threads
    assert made.ptx.startswith(f".version {ahead.PTX_VERSION}\n.target sm_80\n")
    assert 0 < made.shared_bytes <= 48 * 1024  # more would have to be asked for, which TensorRT does not
    file = tmp_path / "kernel.ptx"
    file.write_text(made.ptx, encoding="utf-8")
    for architecture in ARCHITECTURES:
        command = ["ptxas", f"-arch=sm_{architecture}", "-v", str(file), "-o", str(tmp_path / "kernel.cubin")]
        read = subprocess.run(command, capture_output=True, text=True)
        assert read.returncode == 0, read.stderr
        assert re.findall(r"(\d+) bytes spill", read.stderr) == ["0", "0"]
    assert from_json(to_json([made]), where="kernels.json") == (made,)


def test_sizes_without_a_kernel(nvcc: None) -> None:
    with pytest.raises(BuildFailed, match=r"n1025_.*at most 1024 tokens"):
        compile_ahead(Baked(table.KEY_GRAPH.name, "float16", (("N", 1025), ("C", 4), ("K", 1))))
    with pytest.raises(BuildFailed, match=r"d65_.*at most 64 channels"):
        compile_ahead(Baked(table.KEY_GRAPH_ATTENTION.name, "float16", (("HEADS", 1), ("N", 16), ("D", 65))))


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.shutil, "which", lambda *_, **__: None)
    with pytest.raises(MissingDependency, match=r"nvcc is not on this machine.*or set CUDA_HOME"):
        compile_ahead(GRAPH)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a file of kernels"),
        ("[]", "is not a file of kernels"),
        ('{"version": 2}', "has another version of the format .expected 1, got 2"),
        ('{"version": 1, "kernels": [{"of": {}}]}', "is not a file of kernels"),
    ],
)
def test_files_that_are_none(text: str, said: str) -> None:
    with pytest.raises(BundleError, match=f"kernels.json: {said}"):
        from_json(text, where="kernels.json")


def emulate(of: Baked, inputs: list[np.ndarray], output: np.ndarray, folder: Path) -> AheadKernel:
    """Run the source of a kernel with the arguments of TensorRT and the launch that the source states."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not on this machine: the kernels are not run in the emulator")
    op = table.fused_op(of.op)
    assert op is not None
    types = ["uint8_t" if field.dtype == "bool" else "EDGEIR_T" for field in (*op.inputs, *op.outputs)]
    given = ", ".join(f"static_cast<{name}*>(at[{index}])" for index, name in enumerate(types))
    shim = folder / "shim.cpp"
    shim.write_text(
        f'#include "{ahead.source(of)}"\n'
        'extern "C" const int* stated() { return EDGEIR_LAUNCH_NAME; }\n'
        'extern "C" void run(void* const* at, int windows) {\n'
        "    const int* of = EDGEIR_LAUNCH_NAME;\n"
        f"    EDGEIR_LAUNCH(EDGEIR_NAME, dim3(of[0], of[1], windows), dim3(of[2]), of[3], nullptr, {given});\n"
        "}\n",
        encoding="utf-8",
    )
    library = folder / "kernel.so"
    flags = [
        "-std=c++17",
        "-O2",
        "-shared",
        "-fPIC",
        "-DEDGEIR_EMULATED",
        f"-I{EMULATOR}",
        f"-I{toolchain.CUDA_SOURCES}",
    ]
    names = [f"-D{name}={text}" for name, text in ahead.macros(of).items()]
    built = subprocess.run([compiler, *flags, *names, str(shim), "-o", str(library)], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    loaded = ctypes.CDLL(str(library))
    arrays = [np.ascontiguousarray(array) for array in (*inputs, output)]
    addresses = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
    loaded.run(addresses, inputs[0].shape[0])
    output[...] = arrays[-1]
    loaded.stated.restype = ctypes.POINTER(ctypes.c_int)
    return AheadKernel(of, *loaded.stated()[:4], ptx="")


@pytest.mark.parametrize("windows", [1, 3])
def test_the_key_graph_that_is_compiled_in(windows: int, tmp_path: Path) -> None:
    tokens = np.random.default_rng(windows).integers(-4, 5, (windows, 64, 20)).astype(np.float16)
    keep = np.full((windows, 64, 64), 7, np.uint8)
    stated = emulate(GRAPH, [tokens], keep, tmp_path)
    assert np.array_equal(keep, exact_graph(tokens, 9))
    assert (stated.grid_x, stated.grid_y, stated.threads) == (4, 1, 256)
    if shutil.which("nvcc"):
        made = compile_ahead(GRAPH)
        assert (made.grid_x, made.grid_y, made.threads, made.shared_bytes) == (4, 1, 256, stated.shared_bytes)


def exact_graph(tokens: np.ndarray, k: int) -> np.ndarray:
    """The twin on whole numbers, in exact arithmetic: without the mean, which changes no order."""
    similarity = tokens.astype(np.float64) @ tokens.astype(np.float64).swapaxes(-2, -1)
    return similarity >= np.sort(similarity, axis=-1)[..., -k, None]


@pytest.mark.parametrize(("of", "tolerance"), [(ATTENTION, 4e-3), (WIDE, 2e-5)], ids=["float16", "float32"])
def test_the_attention_that_is_compiled_in(of: Baked, tolerance: float, tmp_path: Path) -> None:
    """Tolerances as in tests/ops/cuda: rounded rows, weights and results."""
    sizes = dict(of.sizes)
    heads, n, d = sizes["HEADS"], sizes["N"], sizes["D"]
    rng = np.random.default_rng(n)
    query, key, value = (rng.standard_normal((2, heads, n, d)).astype(of.dtype) for _ in range(3))
    keep = key_graph(query[:, 0].astype(np.float64), n // 2)
    bias = rng.standard_normal((heads, n, n)).astype(of.dtype)
    scale = rng.uniform(1, 10, (heads, 1, 1)).astype(of.dtype)
    output = np.zeros_like(query)
    emulate(of, [query, key, value, keep, bias, scale], output, tmp_path)
    wide = [array.astype(np.float64) for array in (query, key, value, bias, scale)]
    wanted = key_graph_attention(*wide[:3], keep, *wide[3:])
    assert float(np.abs(output - wanted).max()) <= tolerance


@pytest.mark.gpu
def test_on_a_gpu(nvcc: None) -> None:
    """The PTX, compiled by the driver and launched as TensorRT does."""
    try:
        device = CudaDevice()
    except MissingDependency as error:
        pytest.skip(str(error))
    tokens = np.random.default_rng(0).integers(-4, 5, (3, 64, 20)).astype(np.float16)
    keep = np.full((3, 64, 64), 7, np.uint8)
    made = compile_ahead(GRAPH)
    with device, device.holding(tokens, keep) as addresses:
        launch = Launch((made.grid_x, made.grid_y, 3), made.threads, made.shared_bytes)
        device.launch(device.kernel(made.ptx, made.of.name), launch, addresses)
        assert np.array_equal(device.read(addresses[1], keep), exact_graph(tokens, 9))
