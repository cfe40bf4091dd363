"""Which graph of a bundle a builder reads, and with what: everything that the installed version decides.

Nothing here needs the ONNX tools: graphs for old versions were prepared when the bundle was made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeir.bundle import KERNELS_NAME, Bundle, prepared_name, tiles_name
from edgeir.errors import BundleError, MissingDependency
from edgeir.export.engines.target import Profile
from edgeir.export.runtimes import RUNTIMES, Functions, Runtime, Typing
from edgeir.imaging.byte_formats import BYTE_FORMATS, ByteFormat
from edgeir.manifest import Manifest
from edgeir.runtime.byte_session import BYTES_ROLE
from edgeir.runtime.opening import graph_input

_PREFIX = {"rtx": "tensorrt-rtx-", "tensorrt": "tensorrt-"}
_VERSION = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class BuildInputs:
    """What a build starts from.

    Attributes:
        graph: the ONNX file.
        form: how pictures lie in the bytes that it takes and gives, ``None`` for floats.
        kernels: the bundle's ``kernels.json``, where this version takes it.
        profile: range of the dynamic input, ``None`` for a static graph.
        weak_flags: builder flags, for versions whose graphs do not decide about types.
    """

    graph: Path
    form: ByteFormat | None
    kernels: Path | None
    profile: Profile | None
    weak_flags: tuple[str, ...]


def row_of(runtime: str, version: str) -> Runtime:
    """The row of `edgeir.export.runtimes.RUNTIMES` for an installed builder: the newest that is not newer than it.

    >>> row_of("tensorrt", "10.4.0.26").name
    'tensorrt-10.3'
    >>> row_of("rtx", "1.7.1.116").name
    'tensorrt-rtx-1.7'

    Raises:
        MissingDependency: it is older than anything edgeir writes graphs for.
    """
    prefix = _PREFIX[runtime]
    rows = {
        _number(row.name.removeprefix(prefix)): row
        for row in RUNTIMES
        if row.name.startswith(prefix) and row.name.removeprefix(prefix)[0].isdigit()
    }
    wanted = _number(version)
    fitting = [number for number in rows if number <= wanted]
    if not fitting:
        oldest = rows[min(rows)]
        raise MissingDependency(
            f"the builder '{runtime}' that is installed is too old", expected=f"{oldest.title} or later", got=version
        )
    return rows[max(fitting)]


def inputs_for(
    bundle: Bundle, row: Runtime, *, plugins: bool = False, floats: bool = False, tiles: bool = False
) -> BuildInputs:
    """What to build an engine of ``bundle`` from: as in an export, the graph of bytes where there is one.

    Args:
        bundle: an opened bundle.
        row: of the installed builder.
        plugins: edgeir's plugin library will be loaded.
        floats: the graph of floats although there is one of bytes.
        tiles: the graph whose tiles share statistics; of floats, and without plugins, as its functions are written out.

    Raises:
        BundleError: that builder cannot read ``model.onnx``, and the bundle holds no graph that was prepared for it; or
            it has no graph of tiles for it.
        MissingDependency: plugins are asked for where there are none.
    """
    if plugins and not row.has_plugins:
        raise MissingDependency(
            f"{row.title} has no plugins", where="--plugins", fix="Leave it out: the bodies are used there."
        )
    manifest = bundle.manifest
    if tiles:
        return BuildInputs(_tiles_graph(bundle, row), form=None, kernels=None, profile=None, weak_flags=())
    prepared = bundle.path / prepared_name(row.name, plugins=plugins)
    if prepared in bundle.files("prepared"):
        graph = prepared
    elif row.functions is Functions.UNKNOWN or (plugins and row.functions is Functions.BODY_FIRST):
        raise BundleError(
            f"the bundle holds no graph that {row.title} can build" + (" with plugins" if plugins else ""),
            where=str(bundle.path),
            expected=prepared.name,
            fix=f"Export it again, with --for {row.name}{' --plugins' if plugins else ''}.",
        )
    else:
        graph = bundle.graph_for(row.name)
    kernels = bundle.path / KERNELS_NAME
    takes_kernels = row.name.startswith("tensorrt-") and row.has_plugins and not plugins
    twins = {path.name: path for path in bundle.files(BYTES_ROLE)}
    form = None if floats else next((one for one in BYTE_FORMATS if one.graph_name(graph.name) in twins), None)
    return BuildInputs(
        graph=graph if form is None else twins[form.graph_name(graph.name)],
        form=form,
        kernels=kernels if takes_kernels and kernels in bundle.files("kernels") else None,
        profile=_profile(manifest) if form is None else _profile_of_bytes(manifest, form),
        weak_flags=_weak_flags(manifest.precision) if row.typing is Typing.WEAK else (),
    )


def _tiles_graph(bundle: Bundle, row: Runtime) -> Path:
    graph = bundle.path / tiles_name()
    if row.functions is Functions.UNKNOWN:
        raise BundleError(
            f"{row.title} cannot build an engine whose tiles share statistics",
            where=str(bundle.path),
            fix="Build one without --tiles.",
        )
    if graph not in bundle.files("tiles"):
        raise BundleError(
            "the bundle holds no graph whose tiles share statistics",
            where=str(bundle.path),
            expected=graph.name,
            fix="Export keeps one where sharing came closer to the whole: of one size up to 256x256, batch 1.",
        )
    return graph


def _profile(manifest: Manifest) -> Profile | None:
    """The range of every side of the input, whatever its layout; ``None`` where all sides are fixed."""
    if not manifest.ranges:
        return None
    low, best, high = [], [], []
    for side in manifest.input.shape:
        bounds = manifest.ranges.get(side) if isinstance(side, str) else None
        low.append(side if bounds is None else bounds.minimum)
        best.append(side if bounds is None else bounds.optimum)
        high.append(side if bounds is None else bounds.maximum)
    ends = (tuple(int(side) for side in sides) for sides in (low, best, high))
    return Profile(manifest.input.name, *ends)


def _profile_of_bytes(manifest: Manifest, form: ByteFormat) -> Profile | None:
    if not manifest.ranges:
        return None
    graph = graph_input(manifest)
    sizes = (graph.minimum, graph.optimum, graph.maximum)
    return Profile(manifest.input.name, *(form.input_shape(graph.batch, *size) for size in sizes))


def _weak_flags(precision: str) -> tuple[str, ...]:
    """TensorRT 8: what the graph's casts and Q/DQ ask for has to be allowed as well, and obeyed."""
    if precision == "fp32":
        return ()
    return ("FP16", "OBEY_PRECISION_CONSTRAINTS", *(("INT8",) if precision == "int8" else ()))


def _number(version: str) -> tuple[int, int]:
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
