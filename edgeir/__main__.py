"""``python -m edgeir``: the command line, where scripts are not on the PATH."""

from __future__ import annotations

from edgeir.cli.main import main

if __name__ == "__main__":
    main()
