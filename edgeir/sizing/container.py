"""How much memory the control groups around this process leave it: inside a container, less than the machine has."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from edgeir.runtime.board_sysfs import ROOT, read_number, read_text


def memory_limit_bytes(root: Path = ROOT) -> int | None:
    """The tightest limit from this process's own group up to the top; ``None`` without one.

    Version 2 says ``max`` where there is no limit, version 1 a number that no machine has.

    Args:
        root: below it lie ``proc`` and ``sys``.
    """
    limits = []
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            limits += [read_number(folder / "memory.max") for folder in _upwards(root / "sys/fs/cgroup", group)]
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup" / controllers
            limits += [read_number(folder / "memory.limit_in_bytes") for folder in _upwards(mount, group)]
    return min((limit for limit in limits if limit is not None and 0 < limit < 1 << 60), default=None)


def _upwards(mount: Path, group: str) -> list[Path]:
    """The folder of a group and of all around it; a container may see no more than the mount itself."""
    inside = PurePosixPath(group).relative_to("/") if group.startswith("/") else PurePosixPath()
    return [mount / folder for folder in (inside, *inside.parents)]
