"""``edgeir device stop``: what runs on a machine, and its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgeir.cli.console import print_result
from edgeir.cli.device_bundles import JSON, NAME
from edgeir.errors import MissingDependency

if TYPE_CHECKING:
    from edgeir.remote.connection import Connection


def stop(
    name: str = NAME,
    bundle: Path | None = typer.Argument(None, help="The bundle whose jobs are to end; left out, what runs is shown."),
    as_json: bool = JSON,
) -> None:
    """End the jobs of a bundle on a machine, or show what runs there."""
    from edgeir.remote.addresses import device_named
    from edgeir.remote.bundles import board_name
    from edgeir.remote.connection import Connection

    with Connection(device_named(name)) as connection:
        jobs = running(connection, None if bundle is None else board_name(bundle))
        if bundle is not None:
            end(connection, jobs)
    if as_json:
        print_result(json.dumps({"device": name, "stopped" if bundle is not None else "running": jobs}, indent=2))
    elif not jobs:
        print_result("Nothing runs there.\n" if bundle is None else "Nothing of this bundle runs there.\n")
    else:
        print_result("".join(f"{'' if bundle is None else 'Stopped: '}{job['key']}\n" for job in jobs))


def running(connection: Connection, bundle: str | None = None) -> list[dict[str, Any]]:
    """Jobs that run there, with ``key`` and ``command``; of one bundle by its name there, or all."""
    return list(connection.ask("running", name=bundle)["jobs"])


def end(connection: Connection, jobs: Sequence[dict[str, Any]]) -> None:
    """End these jobs.

    Raises:
        MissingDependency: one goes on all the same.
    """
    left = connection.ask("stop", keys=[job["key"] for job in jobs])["left"] if jobs else []
    if left:
        root = connection.device.root
        raise MissingDependency(
            "a job does not end",
            where=connection.device.name,
            got=str(left[0]),
            fix=f"End it there: kill -KILL -- -$(cat {root}/jobs/{left[0]}/pid).",
        )
