"""Why files could not be brought to a device or back, as errors: what all transfers have in common."""

from __future__ import annotations

from edgeir.errors import MissingDependency, OutOfSpace
from edgeir.remote.connection import Connection, RemoteFailed

SPARE_BYTES = 8 << 20
"""What a system wants to keep writing beside a transfer."""


def disk_full(connection: Connection, what: str, needed: int, free: int, *, fix: str) -> OutOfSpace:
    """The error for a device that has ``free`` bytes left and would need ``needed`` and `SPARE_BYTES`."""
    return OutOfSpace(
        f"the disk of the device is too full for {what}",
        where=connection.device.name,
        expected=f"{(needed + SPARE_BYTES) / 1e6:.0f} MB free",
        got=f"{free / 1e6:.0f} MB",
        fix=fix,
    )


def not_transferred(connection: Connection, what: str, failed: RemoteFailed) -> MissingDependency:
    """The error for ``what`` with the last thing that sftp said."""
    got = (failed.errors.strip().splitlines() or ["no reason stated"])[-1]
    return MissingDependency(what, where=connection.device.name, got=got)
