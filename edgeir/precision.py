"""The precision plan: which layer runs in which type, and why. It is what ``plan.yaml`` holds.

A plan has a default type and exceptions. An exception names a module of the network (``latent.3.norm1``: everything
inside it) or one node of the graph (``latent.3.attn/Softmax``); the longest name that contains a node decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from edgeir.errors import GraphError, nearest

PLAN_VERSION = 1

# The module that nodes of the network's own forward belong to.
ROOT_MODULE = "model"


def module_of(node: str) -> str:
    """Path of the module that a node came from: the part of its name before the slash."""
    return (node or ROOT_MODULE).partition("/")[0]


class Precision(str, Enum):
    """A type that layers can run in; the values are the words of ``plan.yaml`` and of the command line.

    A layer in eight bits, ``INT8`` or ``FP8`` (E4M3), reads an input and a weight that were quantised; everything
    around it, and its own result, has the plan's default type.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    FP8 = "fp8"

    def __str__(self) -> str:
        return self.value

    @property
    def eight_bits(self) -> bool:
        """Whether layers in it need ranges, that is, a calibration."""
        return self in (Precision.INT8, Precision.FP8)


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One exception of a plan.

    Attributes:
        layer: module path or node name.
        type: the type it runs in.
        reason: why, in a few words.
        evidence_db: the measured cost in dB that decided, where one was measured.
    """

    layer: str
    type: Precision
    reason: str
    evidence_db: float | None = None


@dataclass(frozen=True)
class PrecisionPlan:
    """A default type and its exceptions, one per layer.

    Raises:
        GraphError: the default has eight bits, or layers are in both of the types that have.
    """

    default: Precision
    layers: tuple[LayerPlan, ...] = ()

    def __post_init__(self) -> None:
        if self.default.eight_bits:
            raise GraphError(
                f"a plan cannot put everything into {self.default}",
                where="plan",
                expected="the default fp32 or fp16",
                fix=f"Name the layers in {self.default} one by one; the default is what is around them.",
            )
        kinds = {layer.type for layer in self.layers if layer.type.eight_bits}
        if len(kinds) > 1:
            raise GraphError("a plan has layers in int8 and layers in fp8", where="plan", expected="one of the two")

    @property
    def eight_bit_type(self) -> Precision | None:
        """``INT8`` or ``FP8`` where layers are in it, else ``None``."""
        return next((layer.type for layer in self.layers if layer.type.eight_bits), None)

    @cached_property
    def _by_layer(self) -> dict[str, LayerPlan]:
        return {layer.layer: layer for layer in self.layers}

    def exception_for(self, node: str) -> LayerPlan | None:
        """The exception that covers ``node`` (``"a.b/Conv"``): the node's own, else its nearest enclosing module's."""
        if node in self._by_layer:
            return self._by_layer[node]
        module = module_of(node)
        while module:
            if module in self._by_layer:
                return self._by_layer[module]
            module = module.rpartition(".")[0]
        return None

    def type_of(self, node: str) -> Precision:
        """The type that ``node`` runs in."""
        exception = self.exception_for(node)
        return self.default if exception is None else exception.type


def plan_to_yaml(plan: PrecisionPlan) -> str:
    """The plan as the text of ``plan.yaml``: edit it and pass it back with ``--plan``."""
    layers: dict[str, dict[str, Any]] = {}
    for layer in plan.layers:
        layers[layer.layer] = {"type": str(layer.type), "reason": layer.reason}
        if layer.evidence_db is not None:
            layers[layer.layer]["evidence_db"] = layer.evidence_db
    document = {"plan_version": PLAN_VERSION, "default": str(plan.default), "layers": layers}
    return "# Which layer runs in which type, and why. A name covers everything inside it.\n" + yaml.safe_dump(
        document, sort_keys=False, width=120
    )


def plan_from_yaml(text: str, *, where: str) -> PrecisionPlan:
    """Read the text of a ``plan.yaml``; ``where`` names it in errors.

    Raises:
        GraphError: not YAML, a key that stands there twice, an unknown key or type, or another version; the nearest
            known name is offered.
    """
    try:
        document = yaml.load(text, _PlanLoader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise GraphError("the plan is not YAML", where=where, got=str(error).replace("\n", " ")) from error
    document = _mapping(document, where)
    _require_keys(document, {"plan_version", "default", "layers"}, where)
    if document.get("plan_version") != PLAN_VERSION:
        raise GraphError(
            "the plan is of another version",
            where=where,
            expected=str(PLAN_VERSION),
            got=str(document.get("plan_version")),
        )
    layers = []
    for name, entry in _mapping(document.get("layers") or {}, f"{where}, layers").items():
        place = f"{where}, layer {name}"
        entry = _mapping(entry, place)
        _require_keys(entry, {"type", "reason", "evidence_db"}, place)
        evidence = entry.get("evidence_db")
        if evidence is not None and (isinstance(evidence, bool) or not isinstance(evidence, (int, float))):
            raise GraphError("evidence_db is not a number", where=place, expected="dB", got=repr(evidence))
        layers.append(
            LayerPlan(
                layer=str(name),
                type=_precision(entry.get("type"), place),
                reason=str(entry.get("reason") or ""),
                evidence_db=None if evidence is None else float(evidence),
            )
        )
    default = _precision(document.get("default"), where)
    try:
        return PrecisionPlan(default, tuple(layers))
    except GraphError as error:
        raise GraphError(error.what, where=where, expected=error.expected, fix=error.fix) from error


def read_plan(path: Path) -> PrecisionPlan:
    """Read a plan file; raises ``GraphError`` when it is not there or not a plan."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GraphError("the plan cannot be read", where=str(path), got=str(error)) from error
    return plan_from_yaml(text, where=str(path))


class _PlanLoader(yaml.SafeLoader):
    """The safe loader, which alone would let the last of two equal keys win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Like the parent's, but a key may stand there once only."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise GraphError("not a mapping", where=where, expected="key: value pairs", got=type(value).__name__)
    return value


def _require_keys(entry: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in entry:
        if key not in known:
            raise GraphError(f"unknown key '{key}'", where=where, fix=nearest(str(key), known))


def _precision(value: object, where: str) -> Precision:
    try:
        return Precision(value)
    except ValueError as error:
        names = [precision.value for precision in Precision]
        raise GraphError(
            "unknown type", where=where, expected=" or ".join(names), got=repr(value), fix=nearest(str(value), names)
        ) from error
