"""What the runtimes are like: one literal table, a row per version that a device can have.

Sources: the parser's sources and operator tables of onnx-tensorrt 8.5-GA to 10.1-GA, its changelog after that, NVIDIA's
JetPack and migration pages, and what was tried with TensorRT-RTX 1.7.1 and ONNX Runtime. Nothing here was run on
TensorRT proper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from edgeir.errors import UsageError, nearest


class Functions(Enum):
    """What a parser does with a node whose op type is a model-local function.

    Attributes:
        UNKNOWN: it knows no functions; only plugins and its own ops (TensorRT 8).
        BODY_FIRST: the body is used wherever there is one, a registered plugin only without (9.0 to 10.6).
        PLUGIN_FIRST: a registered plugin is used, else the body (10.7 to 10.14).
        PLUGIN_IF_NAMED: as before, where the node has the attribute ``plugin_namespace`` (10.15 and later).
        BODY_ONLY: there are no plugins (TensorRT-RTX, ONNX Runtime).
    """

    UNKNOWN = "no functions"
    BODY_FIRST = "body before plugin"
    PLUGIN_FIRST = "plugin before body"
    PLUGIN_IF_NAMED = "plugin where the node names one"
    BODY_ONLY = "body, no plugins"


class Typing(Enum):
    """How a builder decides on types: by flags, by the graph if asked to, or by the graph alone."""

    WEAK = "weak"
    OPTIONAL = "strong if asked for"
    STRONG = "strong"


@dataclass(frozen=True, slots=True)
class Runtime:
    """One version of one runtime.

    Attributes:
        name: ``"tensorrt-10.3"``: what ``--for`` takes.
        title: for people.
        opsets: lowest and highest ONNX opset that it documents.
        functions: see `Functions`.
        typing: see `Typing`.
        missing: ops of edgeir's graphs that its parser does not know.
        constant_k: TopK takes its k from a constant only.
        jetpacks: JetPack releases that bring it.
        architectures: GPUs (SM) of those boards, ``()`` where it does not depend on a board.
        fp8: knows the 8-bit float types.
    """

    name: str
    title: str
    opsets: tuple[int, int]
    functions: Functions
    typing: Typing
    missing: frozenset[str] = frozenset()
    constant_k: bool = False
    jetpacks: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    fp8: bool = True

    @property
    def is_tensorrt(self) -> bool:
        """TensorRT or TensorRT-RTX: NVIDIA's parser with its limits."""
        return self.name.startswith("tensorrt")

    @property
    def has_plugins(self) -> bool:
        """Whether a plugin can take a fused op over."""
        return self.functions is not Functions.BODY_ONLY


_NEW_IN_10_0 = frozenset({"CastLike", "Gelu", "Hardmax", "Mish"})
_NEW_IN_8_6 = frozenset({"GroupNormalization", "IsInf", "LayerNormalization"})

RUNTIMES: tuple[Runtime, ...] = (
    Runtime(
        "tensorrt-8.5",
        "TensorRT 8.5",
        (9, 17),
        Functions.UNKNOWN,
        Typing.WEAK,
        missing=_NEW_IN_8_6 | _NEW_IN_10_0,
        constant_k=True,
        jetpacks=("5.1",),
        architectures=("sm72", "sm87"),
        fp8=False,
    ),
    Runtime(
        "tensorrt-8.6",
        "TensorRT 8.6",
        (9, 17),
        Functions.UNKNOWN,
        Typing.WEAK,
        missing=_NEW_IN_10_0,
        jetpacks=("6.0",),
        architectures=("sm87",),
        fp8=False,
    ),
    Runtime(
        "tensorrt-10.3",
        "TensorRT 10.3",
        (9, 20),
        Functions.BODY_FIRST,
        Typing.OPTIONAL,
        jetpacks=("6.1", "6.2"),
        architectures=("sm87",),
    ),
    Runtime("tensorrt-10.7", "TensorRT 10.7", (9, 20), Functions.PLUGIN_FIRST, Typing.OPTIONAL),
    Runtime(
        "tensorrt-10.13",
        "TensorRT 10.13",
        (9, 20),
        Functions.PLUGIN_FIRST,
        Typing.OPTIONAL,
        jetpacks=("7.0", "7.1"),
        architectures=("sm110",),
    ),
    Runtime(
        "tensorrt-10.16",
        "TensorRT 10.16",
        (9, 20),
        Functions.PLUGIN_IF_NAMED,
        Typing.OPTIONAL,
        jetpacks=("7.2", "7.2.1"),
        architectures=("sm87", "sm110"),
    ),
    Runtime("tensorrt-11.1", "TensorRT 11.1", (9, 24), Functions.PLUGIN_IF_NAMED, Typing.STRONG),
    Runtime(
        "tensorrt-11.4",
        "TensorRT 11.4",
        (9, 24),
        Functions.PLUGIN_IF_NAMED,
        Typing.STRONG,
        jetpacks=("7.2.2",),
        architectures=("sm87", "sm110"),
    ),
    Runtime("tensorrt-rtx-1.7", "TensorRT-RTX 1.7", (9, 24), Functions.BODY_ONLY, Typing.STRONG),
    Runtime("onnxruntime", "ONNX Runtime", (7, 23), Functions.BODY_ONLY, Typing.STRONG),
)

_BY_NAME: Mapping[str, Runtime] = {
    **{runtime.name: runtime for runtime in RUNTIMES},
    **{f"jetpack-{jetpack}": runtime for runtime in RUNTIMES for jetpack in runtime.jetpacks},
}


def runtime_named(name: str) -> Runtime:
    """The row called ``name``, or that of the JetPack called ``name`` (``"jetpack-6.2"``).

    Raises:
        UsageError: no row has this name; offers the nearest.
    """
    if name not in _BY_NAME:
        raise UsageError(
            f"unknown runtime '{name}'",
            where="--for",
            expected=", ".join(runtime.name for runtime in RUNTIMES) + ", or jetpack-VERSION",
            fix=nearest(name, _BY_NAME),
        )
    return _BY_NAME[name]
