"""What a container leaves, from recorded control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeir.sizing.container import memory_limit_bytes

GIB = 1 << 30


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": str(2 * GIB)}, 2 * GIB),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max"}, None),
        (  # version 2: the tightest of those around it
            {
                "proc/self/cgroup": "0::/a.slice/b.scope",
                "sys/fs/cgroup/a.slice/memory.max": str(GIB),
                "sys/fs/cgroup/a.slice/b.scope/memory.max": str(3 * GIB),
            },
            GIB,
        ),
        (  # version 1, the group's own folder outside of what the container sees
            {
                "proc/self/cgroup": "5:devices:/\n4:memory:/docker/0123\n0::/",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": str(4 * GIB),
            },
            4 * GIB,
        ),
        (  # version 1 without a limit
            {
                "proc/self/cgroup": "4:memory:/",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            None,
        ),
        ({"proc/self/cgroup": "nonsense", "sys/fs/cgroup/memory.max": "1 2"}, None),
    ],
)
def test_limits(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert memory_limit_bytes(tmp_path) == limit
