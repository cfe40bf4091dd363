"""``edgeir device push`` and ``pull``: a bundle to a machine, and what was made of it there back."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import typer

from edgeir.cli.console import Console, print_result

NAME = typer.Argument(..., metavar="NAME", help="A machine that 'edgeir device add' added.")
BUNDLE = typer.Argument(..., help="A bundle made by 'edgeir export'.")
JSON = typer.Option(False, "--json", help="Print one JSON value.")


def push(name: str = NAME, bundle: Path = BUNDLE, as_json: bool = JSON) -> None:
    """Bring a machine's copy of a bundle up to date; files that are there are not sent again."""
    import time

    from edgeir.bundle import Bundle
    from edgeir.remote import bundles
    from edgeir.remote.addresses import device_named
    from edgeir.remote.connection import Connection

    device, opened, console = device_named(name), Bundle.open(bundle), Console()
    done: list[bundles.Pushed] = []
    with Connection(device) as connection:
        bundles.retrying(
            lambda: done.append(bundles.push(connection, opened, say=console.say)), console.say, time.sleep
        )
    pushed = done[0]
    if as_json:
        value = {"device": name, "bundle": bundles.board_name(opened.path), "files": pushed.files}
        value |= {"bytes": pushed.bytes, "kept": list(pushed.kept), "dropped": list(pushed.dropped)}
        print_result(json.dumps(value, indent=2))
        return
    count = "1 file" if pushed.files == 1 else f"{pushed.files} files"
    text = f"{count} sent" if pushed.files else "Nothing to send: it is up to date"
    if not pushed.files and (pushed.kept or pushed.dropped):
        text = "Nothing to send"
    kept = f", {len(pushed.kept)} that were made there stay" if pushed.kept else ""
    if pushed.dropped:
        kept += f", damaged there and removed: {', '.join(pushed.dropped)}"
    print_result(f"{text}{kept}.\nNext:\n  edgeir device build {name} {shlex.quote(str(bundle))}\n")


def pull(name: str = NAME, bundle: Path = BUNDLE, as_json: bool = JSON) -> None:
    """Bring engines, timing caches and measurements that were made on a machine back into the bundle here."""
    from edgeir.bundle import Bundle
    from edgeir.remote import bundles
    from edgeir.remote.addresses import device_named
    from edgeir.remote.connection import Connection
    from edgeir.remote.results import last_bench

    device, opened, console = device_named(name), Bundle.open(bundle), Console()
    with Connection(device) as connection:
        paths = bundles.pull(
            connection,
            opened,
            lambda there, built, writer: last_bench(connection, opened, writer, there, built),
            say=console.say,
        )
    if as_json:
        print_result(json.dumps({"device": name, "bundle": str(bundle), "files": list(paths)}, indent=2))
    else:
        print_result("".join(f"{path}\n" for path in paths) or "Nothing there that is not here.\n")
