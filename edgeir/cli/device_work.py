"""``edgeir device build``, ``bench`` and ``run``: commands on a machine that go on when the connection breaks.

What follows the named arguments is passed on to the command of the same name there.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from edgeir.cli.console import Console, print_result
from edgeir.cli.device_bundles import BUNDLE, NAME
from edgeir.errors import BuildFailed, CheckFailed, EdgeIRError, MissingDependency, UsageError

if TYPE_CHECKING:
    from edgeir.bundle import Bundle
    from edgeir.remote.addresses import Device
    from edgeir.remote.jobs import JobEnd
    from edgeir.remote.pictures import Job

_ENDS: dict[int, type[EdgeIRError]] = {1: CheckFailed, 2: UsageError, 3: MissingDependency, 4: BuildFailed}
JSON = typer.Option(False, "--json", help="Print one JSON value.")
# Options of the commands there that would write somewhere else than where this looks for results.
_OURS = ("--json", "-o", "--output", "--debug")


def build(context: typer.Context, name: str = NAME, bundle: Path = BUNDLE, as_json: bool = JSON) -> None:
    """Build an engine on a machine; options of 'edgeir build' may follow. Called again, it attaches to what runs."""
    from edgeir.remote.results import graph_digest

    device, opened, arguments = _given(name, bundle, context.args)
    key = f"build-{_place(opened)}-{graph_digest(opened)}-{_digest(arguments)}"
    end = _work(device, opened, key, ["build", _remote(device, opened), "--json", *arguments])
    answer = json.loads(end.output)
    if as_json:
        print_result(json.dumps({"device": name, "found": end.found, **answer}, indent=2))
        return
    what = "Built" if answer["built"] else "Already built"
    print_result(
        f"{what} on {name}: {answer['engine']}\n{answer['note']}\n"
        f"Next:\n  edgeir device bench {name} {shlex.quote(str(bundle))}\n"
        f"  edgeir device pull {name} {shlex.quote(str(bundle))}\n"
    )


def bench(context: typer.Context, name: str = NAME, bundle: Path = BUNDLE, as_json: bool = JSON) -> None:
    """Time a bundle on a machine; options of 'edgeir bench' may follow. 'pull' brings the result into the bundle."""
    from edgeir.remote.results import bench_key
    from edgeir.report.formats import emit
    from edgeir.report.json_format import report_from_json

    device, opened, arguments = _given(name, bundle, context.args)
    key = f"{bench_key(opened)}{_digest(arguments)}"
    end = _work(device, opened, key, ["bench", _remote(device, opened), "--json", *arguments])
    report = report_from_json(end.output, where=name)
    print_result(end.output if as_json else emit(report, "text"))


def run(
    context: typer.Context,
    name: str = NAME,
    bundle: Path = BUNDLE,
    source: Path = typer.Argument(..., metavar="INPUT", help="A picture, or a folder of pictures, here."),
    output: Path = typer.Option(..., "-o", "--output", help="Where to, here: a picture file, or a folder."),
    as_json: bool = JSON,
) -> None:
    """Restore a picture or a folder of pictures on a machine; options of 'edgeir run' may follow."""
    from edgeir.remote import pictures
    from edgeir.remote.bundles import require_pushed
    from edgeir.remote.connection import Connection
    from edgeir.remote.results import graph_digest

    device, opened, arguments = _given(name, bundle, context.args)
    jobs = _jobs(source, output)
    console = Console()
    key = f"run-{_place(opened)}-{graph_digest(opened)}-{pictures.digest_of(jobs, arguments)}"
    place = f"runs/{key}"
    with Connection(device) as connection:
        require_pushed(connection, opened)
        sent = pictures.send(connection, jobs, place)
        console.say(f"{sent} of {len(jobs)} pictures sent")
    if source.is_dir():
        where = [f"{device.root}/{place}/in", "-o", f"{device.root}/{place}/out"]
    else:
        (first,), (restored,) = pictures.numbered(jobs, "in"), pictures.numbered(jobs, "out")
        where = [f"{device.root}/{place}/in/{first}", "-o", f"{device.root}/{place}/out/{restored}"]
    failed: EdgeIRError | None = None
    named = partial(pictures.with_own_names, jobs=jobs, source=source, output=output, folder=f"{device.root}/{place}")
    try:
        _work(device, opened, key, ["run", _remote(device, opened), *where, "--json", *arguments], named)
    except UsageError as error:  # of a folder, some pictures may have been restored
        failed = error
    with Connection(device) as connection:
        done = pictures.fetch(connection, jobs, place)
        connection.ask("discard", folder=place)
    if as_json:
        rows = [{"input": str(job.source), "output": str(job.destination)} for job in done]
        print_result(json.dumps({"device": name, "restored": rows, "of": len(jobs)}, indent=2))
    else:
        print_result("".join(f"{job.destination}\n" for job in done))
    if failed is not None:
        raise failed


def program(device: Device) -> str:
    """The path of edgeir's command on a machine."""
    return f"{device.python.rpartition('/')[0]}/edgeir"


def _given(name: str, bundle: Path, arguments: Sequence[str]) -> tuple[Device, Bundle, list[str]]:
    from edgeir.bundle import Bundle
    from edgeir.remote.addresses import device_named

    for word in arguments:
        if word.split("=")[0] in _OURS:
            raise UsageError(f"{word} cannot be passed on", where=f"edgeir device, {name}", fix="Leave it out.")
    return device_named(name), Bundle.open(bundle), list(arguments)


def _work(device: Device, bundle: Bundle, key: str, arguments: list[str], named: Callable[[str], str] = str) -> JobEnd:
    """Run an edgeir command there to its end; ``named`` puts names of here into what it says.

    Raises:
        EdgeIRError: with the exit code and the sentence that the command there ended with.
    """
    from edgeir.remote.bundles import require_pushed
    from edgeir.remote.connection import Connection
    from edgeir.remote.jobs import run_job

    console = Console()
    fresh = "--force" in arguments
    with Connection(device) as connection:
        require_pushed(connection, bundle)
        command = [program(device), *arguments]
        try:
            end = run_job(connection, key, command, lambda text: console.say(named(text)), fresh=fresh)
        except KeyboardInterrupt:
            console.say(f"The work goes on on {device.name}: the same command attaches to it again.")
            raise
    if end.exit:
        _fail(device, end, named)
    return end


def _fail(device: Device, end: JobEnd, named: Callable[[str], str]) -> NoReturn:
    """The sentence of the command there, with its exit code."""
    kind = _ENDS.get(end.exit, MissingDependency)
    said = named(end.last_line.removeprefix("edgeir: ")) or "it said nothing"
    if end.exit < 0 or end.exit > max(_ENDS):
        raise MissingDependency(f"the command died there with {end.exit}", where=device.name, got=said)
    raise kind(said, where=device.name)


def _place(bundle: Bundle) -> str:
    from edgeir.remote.bundles import board_name

    return board_name(bundle.path)


def _remote(device: Device, bundle: Bundle) -> str:
    return f"{device.root}/bundles/{_place(bundle)}"


def _digest(arguments: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(arguments).encode()).hexdigest()[:8]


def _jobs(source: Path, output: Path) -> list[Job]:
    """The pictures and where each goes; the same names as 'edgeir run' gives them here.

    Raises:
        PictureError: there is no such picture.
        OutputError: a folder of pictures needs a folder to go to, or an unknown format was asked for.
    """
    from edgeir.errors import OutputError, PictureError
    from edgeir.imaging.listing import list_pictures
    from edgeir.imaging.writing import format_of
    from edgeir.remote.pictures import Job

    def writable(path: Path) -> str:
        try:
            format_of(path)
        except EdgeIRError:
            return f"{path.name}.png"
        return path.name

    if not source.exists():
        raise PictureError("there is no such file or folder", where=str(source))
    if source.is_dir():
        if output.exists() and not output.is_dir():
            raise OutputError("a folder of pictures needs a folder to go to", where=str(output), got="a file")
        return [Job(path, output / writable(path)) for path in list_pictures(source).pictures]
    destination = output / writable(source) if output.is_dir() else output
    format_of(destination)
    return [Job(source, destination)]
