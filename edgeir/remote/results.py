"""What was measured on a device, as a file of the bundle here: latencies, power, and the state of the board then."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from edgeir.bundle import Bundle
from edgeir.bundle_change import Addition, Change
from edgeir.bundle_writer import BundleWriter
from edgeir.errors import BundleError
from edgeir.manifest import Board, DeviceRecord, Manifest
from edgeir.provenance import Provenance
from edgeir.remote.bundles import board_name
from edgeir.remote.connection import Connection
from edgeir.report.json_format import report_from_json
from edgeir.storage import writing

ROLE = "bench"


def graph_digest(bundle: Bundle) -> str:
    """Hash (8 hex digits) of ``model.onnx``: results of another graph under the same name are not taken for its."""
    return next(one.sha256 for one in bundle.manifest.artifacts if one.role == "model")[:8]


def bench_key(bundle: Bundle) -> str:
    """How keys of jobs begin that time this bundle."""
    return f"bench-{board_name(bundle.path)}-{graph_digest(bundle)}-"


def last_bench(connection: Connection, bundle: Bundle, writer: BundleWriter) -> Change:
    """Write the last latency report of a device into the bundle that is being made; empty where there is none.

    Args:
        connection: to the device.
        bundle: the one here.
        writer: of its successor.

    Raises:
        BundleError: what the device gave is no report of edgeir.
    """
    text = connection.ask("results", prefix=bench_key(bundle))["output"]
    if text is None:
        return Change(())
    report_from_json(text, where=f"{connection.device.name}: the result of bench")
    provenance = json.loads(text).get("provenance") or {}
    record_of = Provenance.from_dict(provenance, where=connection.device.name)
    machine = provenance.get("machine") or {}
    if not isinstance(machine, Mapping):
        raise BundleError("the result of bench does not say where it comes from", where=connection.device.name)
    path = f"results/bench-{_slug(record_of.device.processor, machine)}.json"
    data = text.encode()
    if _has(bundle.manifest, path, data):
        return Change(())
    with writing(writer.destination / path):
        writer.path(path).write_bytes(data)
    model = next(one.path for one in bundle.manifest.artifacts if one.role == "model")
    return Change((Addition(path, ROLE, (model,)),), devices=(DeviceRecord((path,), board_from(machine), record_of),))


def board_from(machine: Mapping[str, Any]) -> Board:
    """The settings of a board, from `edgeir.runtime.board.BoardState.to_dict`."""
    texts = {name: _text(machine.get(name)) for name in ("l4t", "jetpack", "power_mode", "driver")}
    pinned = machine.get("clocks_pinned")
    return Board(**texts, clocks_pinned=pinned if isinstance(pinned, bool) else None)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _slug(processor: str, machine: Mapping[str, Any]) -> str:
    """A word for the kind of device, never for which one: ``"nvidia-jetson-orin-nx-jetpack-6.2-25w"``."""
    parts = [processor]
    if machine.get("jetpack"):
        parts.append(f"jetpack-{machine['jetpack']}")
    if machine.get("power_mode"):
        parts.append(str(machine["power_mode"]))
    return re.sub(r"[^a-z0-9.]+", "-", "-".join(parts).lower()).strip("-.")[:80] or "device"


def _has(manifest: Manifest, path: str, data: bytes) -> bool:
    import hashlib

    digest = hashlib.sha256(data).hexdigest()
    return any(one.path == path and one.sha256 == digest for one in manifest.artifacts)
