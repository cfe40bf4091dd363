"""The GPU through the driver's own functions, on a stand-in for the driver; on a real one where there is one."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeir.errors import MissingDependency
from edgeir.runtime import cuda_driver
from edgeir.runtime.cuda_driver import CudaDevice, CudaError, Launch

NUMBERS = np.arange(7, dtype=np.int32)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    """The stand-in, where the module looks for the driver."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on this machine: the stand-in for the driver is not made")
    library = tmp_path / "libcuda.so.1"
    source = Path(__file__).with_name("fake_cuda.c")
    flags = ["-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
    monkeypatch.setattr(cuda_driver, "_LIBRARIES", ("libnothing.so", str(library)))
    loaded = ctypes.CDLL(str(library))
    loaded.fake_fail.argtypes = [ctypes.c_char_p]
    return loaded


def test_memory_and_a_launch(driver: ctypes.CDLL) -> None:
    with CudaDevice() as device:
        assert (device.name, device.architecture) == ("FAKE 40", "90")
        assert driver.fake_left() > 0
        output = np.zeros(7, np.int32)
        with device.holding(NUMBERS, output) as (source, target):
            kernel = device.kernel("// PTX of square", "square")
            device.launch(kernel, Launch((5, 6, 7), 128, 99), (source, target))
            assert device.read(target, output).tolist() == [5, 7, 9, 131, 5, 6, 105]
            assert device.read(source, NUMBERS).tolist() == NUMBERS.tolist()
        turned = np.asfortranarray(np.arange(6.0).reshape(2, 3))
        with device.holding(turned) as (address,):
            assert np.array_equal(device.read(address, turned), turned)
        device.allocate(0)  # given back at the end
    assert driver.fake_left() == 0


def test_a_module_is_loaded_once(driver: ctypes.CDLL) -> None:
    with CudaDevice() as device:
        device.kernel("// first second", "first")
        before = driver.fake_left()
        device.kernel("// first second", "second")
        assert driver.fake_left() == before
        with pytest.raises(CudaError, match=r"cuModuleGetFunction gave 500 \(other\)"):
            device.kernel("// first second", "third")


def test_a_fault_says_what_the_driver_says(driver: ctypes.CDLL) -> None:
    with (
        pytest.raises(CudaError, match=r"cuStreamSynchronize gave 719 \(unspecified launch failure\)"),
        CudaDevice() as device,
    ):
        driver.fake_fail(b"cuStreamSynchronize")
        device.wait()
    driver.fake_fail(None)


@pytest.mark.parametrize("call", [b"cuInit", b"cuDeviceGet"])
def test_a_driver_without_a_gpu(call: bytes, driver: ctypes.CDLL) -> None:
    driver.fake_fail(call)
    with pytest.raises(MissingDependency, match=r"there is no GPU to use .*unspecified launch failure"), CudaDevice():
        pass
    assert driver.fake_left() == 0


@pytest.mark.parametrize("call", [b"cuCtxSetCurrent", b"cuStreamCreate"])
def test_what_was_begun_is_given_back(call: bytes, driver: ctypes.CDLL) -> None:
    driver.fake_fail(call)
    with pytest.raises(CudaError, match=rf"{call.decode()} gave 719") as caught, CudaDevice():
        pass
    assert caught.value.exit_code == 3, "the environment is at fault, and not edgeir"
    assert driver.fake_left() == 0


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "_LIBRARIES", ("libnothing.so",))
    with pytest.raises(MissingDependency, match=r"NVIDIA's driver is not on this machine"):
        CudaDevice()


@pytest.mark.gpu
def test_a_real_gpu() -> None:
    try:
        device = CudaDevice()
    except MissingDependency as error:
        pytest.skip(str(error))
    with device, device.holding(NUMBERS) as (address,):
        assert device.read(address, NUMBERS).tolist() == NUMBERS.tolist()
        assert int(device.architecture) >= 50
