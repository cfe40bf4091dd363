"""Libraries of TensorRT plugins: loaded only from paths that the user lists, and taken out again.

Loading a library runs its code. So a path must be absolute and the file itself, not a link to it: what the user named
is what is loaded, wherever the process stands.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeir.errors import MissingDependency, UsageError
from edgeir.ops.table import DOMAIN, FUSED_OPS, VERSION
from edgeir.runtime.engine_runtimes import EngineRuntime

WHERE = "--plugins"
_BUILD = "Make one with 'edgeir plugins build' and name it with --plugins PATH."


def check_paths(paths: Sequence[Path], runtime: EngineRuntime) -> None:
    """Refuse a path that is not a library at its own place; nothing is loaded.

    Raises:
        UsageError: relative, a link (in any part), no regular file; or the runtime takes no plugins.
    """
    if paths and not runtime.has_plugins:
        raise UsageError(f"{runtime.title} takes no libraries of plugins", where=WHERE, fix="Leave --plugins out.")
    for path in paths:
        if not path.is_absolute():
            raise UsageError(
                "the path must be absolute", where=WHERE, got=str(path), fix=f"Name it as {path.resolve()}."
            )
        try:
            found = path.lstat()
            real = path.resolve(strict=True)
        except OSError as error:
            raise UsageError(
                "there is no such library", where=WHERE, got=f"{path}: {error.strerror}", fix=_BUILD
            ) from error
        if real != path:
            raise UsageError("a library may not be named by a link", where=WHERE, got=str(path), fix=f"Name {real}.")
        if not stat.S_ISREG(found.st_mode):
            raise UsageError("a library is a regular file", where=WHERE, got=str(path))


class PluginLibraries:
    """Libraries that are loaded into one runtime.

    Args:
        trt: the runtime's module.
        paths: of the libraries, see `check_paths`, which has judged them.

    Raises:
        MissingDependency: the runtime cannot load one.
    """

    def __init__(self, trt: Any, paths: Sequence[Path]) -> None:
        self._registry: Any = trt.get_plugin_registry()
        self._handles: list[Any] = []
        for path in paths:
            try:
                handle = self._registry.load_library(str(path))
            except (RuntimeError, OSError) as error:
                handle, reason = None, str(error).strip().splitlines()[0]
            else:
                reason = "no plugins in it, or plugins that are there already"
            if handle is None:
                self.close()
                raise MissingDependency("TensorRT cannot load the library", where=str(path), got=reason, fix=_BUILD)
            self._handles.append(handle)

    def require_ours(self, engine: str) -> None:
        """Raise `MissingDependency` unless edgeir's plugins are registered, which ``engine`` needs."""
        missing = [op.name for op in FUSED_OPS if self._registry.get_creator(op.name, str(VERSION), DOMAIN) is None]
        if missing:
            raise MissingDependency(
                "the engine needs edgeir's plugins, which are not loaded",
                where=engine,
                expected=", ".join(missing),
                fix=_BUILD,
            )

    def close(self) -> None:
        """Take the libraries out of the runtime, after the last engine is gone."""
        for handle in reversed(self._handles):
            self._registry.deregister_library(handle)
        self._handles.clear()
