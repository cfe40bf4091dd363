"""What was measured on a device, as a file of the bundle here: latencies, power, and the state of the board then."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgeir.bundle import Bundle
from edgeir.bundle_change import Addition, Change
from edgeir.bundle_writer import BundleWriter
from edgeir.errors import BundleError
from edgeir.manifest import Board, DeviceRecord, Manifest
from edgeir.provenance import Provenance
from edgeir.remote.additions import BENCH
from edgeir.remote.bundles import IDLE_ROLES, board_name
from edgeir.remote.connection import Connection
from edgeir.report.json_format import report_from_json
from edgeir.storage import writing

_HEX = re.compile(r"[0-9a-f]{6,64}")


def graph_digest(manifest: Manifest) -> str:
    """Hash (8 hex digits) of all files that work on a bundle depends on, but for engines."""
    return _digest(manifest, with_engines=False)


def work_digest(manifest: Manifest) -> str:
    """Hash (8 hex digits) of all files that a latency or a restored picture depends on, engines included."""
    return _digest(manifest, with_engines=True)


def bench_key(bundle: Bundle, there: Manifest) -> str:
    """How keys of jobs begin that time a device's copy of a bundle as it is: with other engines it is another one."""
    return f"bench-{board_name(bundle.path)}-{work_digest(there)}-"


def last_bench(connection: Connection, bundle: Bundle, writer: BundleWriter, there: Manifest, built: Change) -> Change:
    """Write the last latency report of a device into the bundle that is being made; empty where there is none.

    Args:
        connection: to the device.
        bundle: the one here.
        writer: of its successor.
        there: what the device's copy says.
        built: what is brought from there besides.

    Raises:
        BundleError: what the device gave is no report of edgeir.
    """
    prefix = bench_key(bundle, there)
    answer = connection.ask("results", prefix=prefix)
    text = answer["output"]
    if text is None:
        return Change(())
    report_from_json(text, where=f"{connection.device.name}: the result of bench")
    provenance = json.loads(text).get("provenance") or {}
    record_of = Provenance.from_dict(provenance, where=connection.device.name)
    machine = provenance.get("machine") or {}
    options = str(answer["key"]).removeprefix(prefix)
    if not isinstance(machine, Mapping) or not _HEX.fullmatch(options) or not _HEX.fullmatch(str(answer["id"])):
        raise BundleError("the result of bench does not say where it comes from", where=connection.device.name)
    path = f"results/bench-{_slug(record_of, machine)}-{str(answer['id'])[:6]}-{options[:8]}.json"
    data = text.encode()
    if _has(bundle.manifest, path, data):
        return Change(())
    with writing(writer.destination / path):
        writer.path(path).write_bytes(data)
    model = next(one.path for one in bundle.manifest.artifacts if one.role == "model")
    parents = (model, *_engines(bundle.manifest, there, built, _backend(answer["command"])))
    return Change((Addition(path, BENCH, parents),), devices=(DeviceRecord((path,), board_from(machine), record_of),))


def _digest(manifest: Manifest, *, with_engines: bool) -> str:
    files = sorted(
        f"{one.path} {one.sha256}\0"
        for one in manifest.artifacts
        if one.role not in IDLE_ROLES or (with_engines and one.role == "engine")
    )
    return hashlib.sha256("".join(files).encode()).hexdigest()[:8]


def _backend(command: Sequence[str]) -> str:
    """What a bench timed: the last that was asked for, as the command line there reads it."""
    found = "ort"
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word == "--backend":
            found = following
        elif word.startswith("--backend="):
            found = word.partition("=")[2]
    return found


def _engines(here: Manifest, there: Manifest, built: Change, runtime: str) -> list[str]:
    """Engines of a runtime that are in the bundle by then, as the device has them: the result goes with them."""
    listed = {(one.path, one.sha256) for one in here.artifacts}
    brought = {one.path for one in built.files}
    of_runtime = {note.path for note in there.engines if note.runtime == runtime}
    return [one.path for one in there.artifacts
            if one.path in of_runtime and (one.path in brought or (one.path, one.sha256) in listed)]  # fmt: skip


def board_from(machine: Mapping[str, Any]) -> Board:
    """The settings of a board, from `edgeir.runtime.board.BoardState.to_dict`."""
    texts = {name: _text(machine.get(name)) for name in ("l4t", "jetpack", "power_mode", "driver")}
    pinned = machine.get("clocks_pinned")
    return Board(**texts, clocks_pinned=pinned if isinstance(pinned, bool) else None)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _slug(of: Provenance, machine: Mapping[str, Any]) -> str:
    """A word for the kind of device, never for which one: ``"nvidia-jetson-orin-nx-jetpack-6.2-25w"``."""
    parts = [of.device.processor]
    gpus = machine.get("gpus")
    named = gpus[0].get("name") if isinstance(gpus, list) and gpus and isinstance(gpus[0], Mapping) else None
    if (gpu := of.device.gpu or named) and str(gpu) != of.device.processor:
        parts.append(str(gpu))
    if machine.get("jetpack"):
        parts.append(f"jetpack-{machine['jetpack']}")
    if machine.get("power_mode"):
        parts.append(str(machine["power_mode"]))
    return re.sub(r"[^a-z0-9.]+", "-", "-".join(parts).lower()).strip("-.")[:80].rstrip("-.") or "device"


def _has(manifest: Manifest, path: str, data: bytes) -> bool:
    digest = hashlib.sha256(data).hexdigest()
    return any(one.path == path and one.sha256 == digest for one in manifest.artifacts)
