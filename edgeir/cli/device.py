"""``edgeir device``: other machines over the user's own OpenSSH; adding, listing, removing and looking at them."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgeir.cli import device_bundles, device_jobs, device_work
from edgeir.cli.console import Console, print_result
from edgeir.errors import MissingDependency, OutputError, UsageError

if TYPE_CHECKING:
    from edgeir.remote.probe import Probe

app = typer.Typer(
    name="device",
    help="Boards and other machines over OpenSSH: install, push, build, measure and run there, and pull results back.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

_JSON = typer.Option(False, "--json", help="Print one JSON value.")
_RUNTIMES = ("onnxruntime",)


@app.command("add")
def add(
    name: str = typer.Argument(..., metavar="NAME", help="What you call it."),
    address: str = typer.Argument(..., metavar="USER@HOST", help="Its address, or an alias of your ssh_config."),
    port: int | None = typer.Option(None, "--port", min=1, max=65535, help="Port of its ssh server."),
    identity: Path | None = typer.Option(None, "--identity", help="Private key file (ssh's own choice)."),
    config: Path | None = typer.Option(None, "--ssh-config", metavar="FILE", help="In place of your ~/.ssh/config."),
    python: str = typer.Option("python3", "--python", help="Python 3.10 or later there."),
    folder: str | None = typer.Option(
        None, "--folder", metavar="PATH", help="Where edgeir keeps its things there (~/.local/share/edgeir)."
    ),
    wheel: Path | None = typer.Option(None, "--wheel", help="edgeir's wheel (made from the edgeir that runs here)."),
    wheels: Path | None = typer.Option(
        None, "--wheels", metavar="FOLDER", help="Wheels to install from, for a device without a network."
    ),
    packages: list[str] | None = typer.Option(
        None, "--with", metavar="PACKAGE", help="What to install beside edgeir, repeatable (onnxruntime)."
    ),
    extras: list[str] | None = typer.Option(None, "--extra", metavar="NAME", help="An extra of edgeir, such as nvml."),
    system: bool | None = typer.Option(
        None,
        "--system-site-packages/--no-system-site-packages",
        help="Let its environment see the system's packages (where those have TensorRT, as on a Jetson).",
    ),
    again: bool = typer.Option(False, "--again", help="Make its environment anew although it is there."),
    as_json: bool = _JSON,
) -> None:
    """Look at a machine, install this edgeir there, and remember it under a name."""
    from edgeir.remote.addresses import Device, check_address, check_name, keep_device, load_devices
    from edgeir.remote.connection import Connection
    from edgeir.remote.install import Installation, check_requirements, install
    from edgeir.remote.probe import probe, require_usable
    from edgeir.remote.wheel import check_extras, check_wheel, make_wheel

    for option, path in (("--identity", identity), ("--ssh-config", config)):
        if path is not None and not path.is_file():
            raise UsageError("there is no such file", where=option, got=str(path))
    if wheels is not None and not wheels.is_dir():
        raise UsageError("there is no such folder", where="--wheels", got=str(wheels))
    if python.startswith("-"):
        raise UsageError("no program", where="--python", got=repr(python))
    device = Device(
        check_name(name),
        check_address(address),
        port=port,
        identity=None if identity is None else str(identity.resolve()),
        config=None if config is None else str(config.resolve()),
    )
    requirements = check_requirements(packages if packages is not None else _RUNTIMES)
    load_devices()  # a list that cannot be read is refused before the work
    console = Console(stages=3)
    with Connection(device) as connection, tempfile.TemporaryDirectory(prefix="edgeir-") as temporary:
        console.stage(f"looking at {address}")
        found = probe(connection, python=python, folder=folder)
        console.say(f"      {found.title}")
        require_usable(found, name=name)
        console.stage("making the wheel of this edgeir" if wheel is None else f"taking {wheel.name}")
        chosen = make_wheel(Path(temporary)) if wheel is None else check_wheel(wheel)
        console.stage("installing")
        what = Installation(
            chosen,
            requirements,
            extras=check_extras(chosen, extras or ()),
            wheels=wheels,
            system=found.tensorrt_in_python if system is None else system,
            again=again,
        )
        device = install(connection, found, what, say=lambda text: console.say(f"      {text}"))
        there = Connection(device)
        with there:
            state = there.ask("state")
    keep_device(device)
    if as_json:
        print_result(json.dumps({"device": asdict(device), "probe": found.to_dict(), **state}, indent=2))
    else:
        print_result(
            f"Added {name}: {found.title}, edgeir {state['edgeir']} in {device.root}\n"
            f"Next:\n  edgeir device doctor {name}\n  edgeir device push {name} BUNDLE\n"
        )


@app.command("list")
def list_devices(as_json: bool = _JSON) -> None:
    """Show the machines that were added."""
    from edgeir.remote.addresses import devices_file, load_devices
    from edgeir.report.formats import emit
    from edgeir.report.value import Report, Table

    devices = load_devices()
    if as_json:
        print_result(json.dumps([asdict(device) for device in devices.values()], indent=2))
        return
    rows = tuple((one.name, one.address, "" if one.port is None else str(one.port), one.root)
                 for one in devices.values())  # fmt: skip
    count = "1 device" if len(devices) == 1 else f"{len(devices)} devices"
    table = Table("Devices", ("name", "address", "port", "folder there"), rows, note=f"Kept in {devices_file()}.")
    print_result(emit(Report(title="edgeir device list", summary=f"{count}.", tables=(table,)), "text"))


@app.command("remove")
def remove(
    name: str = typer.Argument(..., metavar="NAME"),
    there: bool = typer.Option(False, "--there", help="Also remove edgeir's whole folder on the device."),
) -> None:
    """Forget a machine; what is on it stays, unless --there."""
    from edgeir.remote.addresses import device_named, forget_device
    from edgeir.remote.connection import Connection

    device = device_named(name)
    if there:
        with Connection(device) as connection:
            device_jobs.end(connection, device_jobs.running(connection))
            # Its own environment last: nothing answers there from then on.
            left = [one for one in ("bundles", "incoming", "jobs", "runs", "wheels", "id", "envs")
                    if connection.ask("discard", folder=one)["left"]]  # fmt: skip
        if left:
            raise OutputError(
                "not everything there could be removed", where=name, got=f"{', '.join(left)} in {device.root} left",
                fix="Remove it there, then 'edgeir device remove' without --there.",
            )  # fmt: skip
    forget_device(name)
    print_result(f"Removed {name}.{'' if there else f' Its folder {device.root} is still there.'}\n")


@app.command("doctor")
def doctor(name: str = typer.Argument(..., metavar="NAME"), as_json: bool = _JSON) -> None:
    """Show what a machine is, what it is set to at this moment, and what edgeir finds installed there."""
    from edgeir import __version__
    from edgeir.remote.addresses import device_named
    from edgeir.remote.connection import Connection, RemoteFailed
    from edgeir.remote.probe import probe
    from edgeir.report.formats import emit

    device = device_named(name)
    with Connection(device) as connection:
        state = connection.ask("state")  # first: it says what to do where the environment is gone
        found = probe(connection, python=device.python, folder=device.root)
        try:
            said = connection.run([device_work.program(device), "doctor", "--json"])
        except RemoteFailed as failed:
            raise connection.broken(failed) from failed
        parts = _value(said, name)
    if as_json:
        print_result(json.dumps({"name": name, "probe": found.to_dict(), **state, "doctor": parts}, indent=2))
        return
    print_result(emit(_doctor_report(name, found, state, parts, __version__), "text"))


def _value(said: str, name: str) -> dict[str, Any]:
    """The JSON object that a command printed, after whatever a login shell says."""
    lines = said.splitlines()
    first = next((index for index, line in enumerate(lines) if line.startswith("{")), 0)
    try:
        return dict(json.loads("\n".join(lines[first:])))
    except (TypeError, ValueError) as error:
        got = said.strip()[-80:] or "nothing"
        raise MissingDependency("'edgeir doctor' gave no answer there", where=name, got=got) from error


def _doctor_report(name: str, found: Probe, state: dict[str, Any], parts: dict[str, Any], here: str):  # type: ignore[no-untyped-def]
    from edgeir.report.value import Fact, Report, Table

    board = state["board"]
    version = state["edgeir"] if state["edgeir"] == here else f"{state['edgeir']}, and {here} here: add it again"
    degrees = {**(board["temperatures_c"] or {}), **found.temperatures_c}
    hottest = max(degrees, key=lambda zone: degrees[zone], default=None)
    gpus = "; ".join(
        f"{gpu.name}, driver {gpu.driver or 'unknown'}"
        + (f", {gpu.memory_mib} MiB" if gpu.memory_mib else "")
        + (f", {gpu.temperature_c} °C" if gpu.temperature_c is not None else "")
        for gpu in found.gpus
    )
    throttled = [zone for zone, held in (board["throttling_now"] or {}).items() if held]
    facts = [
        ("board", found.model or "no device tree"),
        ("system", f"{found.distribution or found.system}, {found.machine}"),
        ("edgeir", version),
        ("python", found.python_version),
        ("disk", f"{found.free_bytes / 1e9:.1f} GB free for {found.root}"),
        ("memory", f"{found.memory_bytes / 2**30:.1f} GiB" if found.memory_bytes else "unknown"),
        ("JetPack", f"{found.jetpack or 'unknown'} (L4T {found.l4t})" if found.l4t else "none"),
        ("power mode", found.power_mode or "unknown"),
        ("clocks", {True: "pinned", False: "free to move", None: "unknown"}[board["clocks_pinned"]]),
        ("GPU clock", f"{found.gpu_mhz} MHz" if found.gpu_mhz else "unknown"),
        ("hottest", f"{hottest} {degrees[hottest]:.1f} °C" if hottest else "unknown"),
        ("throttled", ", ".join(throttled) or "no sign of it"),
        ("GPU", gpus or "none that nvidia-smi knows"),
        ("NVIDIA driver", found.driver or "none"),
        ("TensorRT", _tensorrt(found)),
        ("TensorRT-RTX", found.tensorrt_rtx or "not installed"),
        ("programs", ", ".join(found.programs) or "none of CUDA's"),
    ]
    missing = [part for part in parts["parts"] if part["version"] is None]
    rows = tuple(
        (part["name"], part["version"] or "not installed", "" if part["version"] else f"no {part['disables']}")
        for part in parts["parts"]
    )
    return Report(
        title=f"edgeir device doctor {name}",
        summary=f"{found.title}: {len(parts['parts']) - len(missing)} of {len(parts['parts'])} parts are there.",
        facts=tuple(Fact(*fact) for fact in facts),
        tables=(Table("Parts", ("part", "version", "without it"), rows),),
    )


def _tensorrt(found: Probe) -> str:
    if found.tensorrt is None:
        return "not installed"
    if found.tensorrt_in_python:
        return found.tensorrt
    return f"{found.tensorrt}, which its Python does not see: add it again with --system-site-packages"


app.command("push")(device_bundles.push)
app.command("pull")(device_bundles.pull)
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command("stop")(device_jobs.stop)
app.command("build", context_settings=_PASSED_ON)(device_work.build)
app.command("bench", context_settings=_PASSED_ON)(device_work.bench)
app.command("run", context_settings=_PASSED_ON)(device_work.run)
