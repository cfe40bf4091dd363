"""Write ``.links/edgeir``: the package as it installs, in symbolic links, for editors and type checkers only.

``export/``, ``calibrate/`` and ``train/`` lie at the root and install as ``edgeir.export`` and so on, through the
``package-dir`` table of ``pyproject.toml``. Python sees that through an import hook; tools that only look at files
do not. Nothing at run time uses the links, and git ignores them.

Run it from anywhere: ``python tools/links.py``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent


def write_links(root: Path) -> Path:
    """Make ``root/.links`` anew from the table in ``root/pyproject.toml`` and return it."""
    table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    mapped: dict[str, str] = table["tool"]["setuptools"]["package-dir"]
    links = root / ".links"
    if links.exists():
        shutil.rmtree(links)
    package = links / "edgeir"
    package.mkdir(parents=True)
    for entry in sorted((root / "edgeir").iterdir()):
        if entry.name != "__pycache__":
            (package / entry.name).symlink_to(Path("../../edgeir") / entry.name)
    for name, folder in mapped.items():
        (package / name.removeprefix("edgeir.")).symlink_to(Path("../..") / folder)
    return links


if __name__ == "__main__":
    print(write_links(ROOT).relative_to(ROOT))
