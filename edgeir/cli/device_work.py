"""``edgeir device build``, ``bench`` and ``run``: commands on a machine that go on when the connection breaks.

What follows the named arguments is passed on to the command of the same name there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer

from edgeir.cli.console import Console, print_result
from edgeir.cli.device_bundles import BUNDLE, NAME
from edgeir.errors import BuildFailed, CheckFailed, EdgeIRError, MissingDependency, UsageError

if TYPE_CHECKING:
    from edgeir.bundle import Bundle
    from edgeir.remote.addresses import Device
    from edgeir.remote.connection import Connection
    from edgeir.remote.jobs import JobEnd


class _Damaged(MissingDependency):
    """A result that is none: it counts as taken, for it will not get better."""


_ENDS: dict[int, type[EdgeIRError]] = {1: CheckFailed, 2: UsageError, 3: MissingDependency, 4: BuildFailed}
JSON = typer.Option(False, "--json", help="Print one JSON value.")
# Options of the commands there that would write somewhere else than where this looks for results.
_OURS = ("--json", "-o", "--output", "--debug")


def build(context: typer.Context, name: str = NAME, bundle: Path = BUNDLE, as_json: bool = JSON) -> None:
    """Build an engine on a machine; options of 'edgeir build' may follow. Called again, it attaches to what runs."""
    from edgeir.remote.bundles import require_pushed
    from edgeir.remote.connection import Connection
    from edgeir.remote.results import graph_digest

    device, opened, arguments = _given(name, bundle, context.args)

    def show(end: JobEnd | None) -> None:
        if end is None or end.exit:
            return
        answer: dict[str, Any] = _read(json.loads, end, name)
        if as_json:
            print_result(json.dumps({"device": name, "found": end.found, **answer}, indent=2))
            return
        what = "Built" if answer["built"] else "Already built"
        print_result(
            f"{what} on {name}: {answer['engine']}\n{answer['note']}\n"
            f"Next:\n  edgeir device bench {name} {shlex.quote(str(bundle))}\n"
            f"  edgeir device pull {name} {shlex.quote(str(bundle))}\n"
        )

    with Connection(device) as connection:
        # Not of engines: it makes one, and the same command must find its result.
        digest = graph_digest(require_pushed(connection, opened))
        key = f"build-{_place(opened)}-{digest}-{_digest(arguments)}"
        _work(connection, key, ["build", _remote(device, opened), "--json", *arguments], show)


def bench(context: typer.Context, name: str = NAME, bundle: Path = BUNDLE, as_json: bool = JSON) -> None:
    """Time a bundle on a machine; options of 'edgeir bench' may follow. 'pull' brings the result into the bundle."""
    from edgeir.remote.bundles import require_pushed
    from edgeir.remote.connection import Connection
    from edgeir.remote.results import bench_key
    from edgeir.report.formats import emit
    from edgeir.report.json_format import report_from_json

    device, opened, arguments = _given(name, bundle, context.args)

    def show(end: JobEnd | None) -> None:
        if end is None or end.exit:
            return
        report = _read(partial(report_from_json, where=name), end, name)
        print_result(end.output if as_json else emit(report, "text"))

    with Connection(device) as connection:
        key = f"{bench_key(opened, require_pushed(connection, opened))}{_digest(arguments)}"
        _work(connection, key, ["bench", _remote(device, opened), "--json", *arguments], show)


def run(
    context: typer.Context,
    name: str = NAME,
    bundle: Path = BUNDLE,
    source: Path = typer.Argument(..., metavar="INPUT", help="A picture, or a folder of pictures, here."),
    output: Path = typer.Option(..., "-o", "--output", help="Where to, here: a picture file, or a folder."),
    as_json: bool = JSON,
) -> None:
    """Restore a picture or a folder of pictures on a machine; options of 'edgeir run' may follow."""
    from edgeir.cli.run_jobs import picture_jobs
    from edgeir.remote import pictures
    from edgeir.remote.bundles import require_pushed
    from edgeir.remote.connection import Connection
    from edgeir.remote.refusals import Unreachable
    from edgeir.remote.results import work_digest

    device, opened, arguments = _given(name, bundle, context.args)
    console = Console()
    jobs = [pictures.Job(job.source, job.destination) for job in picture_jobs(source, output, console)]
    done: tuple[pictures.Job, ...] = ()
    over = False
    with Connection(device) as connection:
        digest = work_digest(require_pushed(connection, opened))
        key = f"run-{_place(opened)}-{digest}-{pictures.digest_of(jobs, arguments)}"
        place = f"runs/{key}"
        there = f"{device.root}/{place}"
        sent = pictures.send(connection, jobs, place)
        console.say(f"{sent} of {len(jobs)} pictures sent")
        first, restored = pictures.numbered(jobs, "in")[0], pictures.numbered(jobs, "out")[0]
        where = [f"{there}/in", "-o", f"{there}/out"]
        if not source.is_dir():
            where = [f"{there}/in/{first}", "-o", f"{there}/out/{restored}"]

        def fetch(end: JobEnd | None) -> None:  # also of a command that failed: it may have restored some before
            nonlocal done, over
            done = pictures.fetch(connection, jobs, place)
            over = end is not None
            if as_json:
                rows = [{"input": str(job.source), "output": str(job.destination)} for job in done]
                print_result(json.dumps({"device": name, "restored": rows, "of": len(jobs)}, indent=2))
            elif done:
                print_result("".join(f"{job.destination}\n" for job in done))

        named = partial(pictures.with_own_names, jobs=jobs, source=source, output=output, folder=there)
        try:
            _work(connection, key, ["run", _remote(device, opened), *where, "--json", *arguments], fetch, named)
        finally:
            if over:
                with contextlib.suppress(Unreachable):
                    connection.ask("discard", folder=place)
    if len(done) < len(jobs):
        raise MissingDependency(
            "the results are gone there",
            where=name,
            expected=f"{len(jobs)} pictures",
            got=str(len(done)),
            fix="Somebody else took them, or emptied the folder: run the command again.",
        )


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


def _work(
    connection: Connection,
    key: str,
    arguments: Sequence[str],
    use: Callable[[JobEnd | None], None],
    named: Callable[[str], str] = str,
) -> None:
    """Run an edgeir command there to its end.

    Args:
        connection: to the machine.
        key: of the job.
        arguments: of the command.
        use: given the end, also a bad one, and ``None`` where there is none; only then the result counts as taken.
        named: puts names of here into what the command says.

    Raises:
        EdgeIRError: with the exit code and the sentence that the command there ended with.
    """
    from edgeir.remote.jobs import mark_taken, run_job
    from edgeir.remote.refusals import Unreachable

    device, console = connection.device, Console()
    try:
        end = run_job(connection, key, [program(device), *arguments], lambda text: console.say(named(text)))
    except KeyboardInterrupt:
        console.say(f"The work goes on on {device.name}: the same command attaches to it again.")
        raise
    except Unreachable:
        raise
    except EdgeIRError:
        use(None)
        raise
    damaged: _Damaged | None = None
    try:
        use(end)
    except _Damaged as error:
        damaged = error
    try:
        mark_taken(connection, end, console.say)
    except Unreachable as error:
        console.say(f"{error} The same command would show this result once more.")
    if damaged is not None:
        raise damaged
    if end.exit:
        _fail(device, end, named)


def _fail(device: Device, end: JobEnd, named: Callable[[str], str]) -> NoReturn:
    """The sentence of the command there, with its exit code."""
    kind = _ENDS.get(end.exit, MissingDependency)
    said = named(end.last_line.removeprefix("edgeir: ")) or "it said nothing"
    if end.exit < 0 or end.exit > max(_ENDS):
        raise MissingDependency(f"the command died there with {end.exit}", where=device.name, got=said)
    raise kind(said, where=device.name)


_Value = TypeVar("_Value")


def _read(read: Callable[[str], _Value], end: JobEnd, name: str) -> _Value:
    """What a command that ended well printed.

    Raises:
        _Damaged: it cannot be read: the disk was full, for example.
    """
    try:
        return read(end.output)
    except (ValueError, UsageError) as error:
        raise _Damaged(
            "the result of the command is damaged there", where=name, got=end.output.strip()[-80:] or "nothing",
            fix="Run the command again.",
        ) from error  # fmt: skip


def _place(bundle: Bundle) -> str:
    from edgeir.remote.bundles import board_name

    return board_name(bundle.path)


def _remote(device: Device, bundle: Bundle) -> str:
    return f"{device.root}/bundles/{_place(bundle)}"


def _digest(arguments: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(arguments).encode()).hexdigest()[:8]
