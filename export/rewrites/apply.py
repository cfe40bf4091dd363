"""Applying the rules to a graph, and explaining why one did not fire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass
from onnxscript.rewriter import MatchingTracer, MatchStatus, RewriteRuleSet

from edgeir.export.rewrites.catalogue import ON_REQUEST, RULES, require_rules
from edgeir.export.rewrites.cost import Cost, cost_of
from edgeir.precision import ROOT_MODULE, module_of

RULE_KEY = "pkg.onnxscript.rewriter.rule_name"
"""Metadata of a rewritten node: the rule that made it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the waterfall.

    Attributes:
        rule: its name; ``""`` for the graph as traced.
        applied: how many times it fired.
        cost: of the graph after it.
    """

    rule: str
    applied: int
    cost: Cost


Seen = Callable[[ir.Model], None]


def rewrite(
    model: ir.Model,
    *,
    without: Collection[str] = (),
    also: Collection[str] = (),
    seen: Seen = lambda model: None,
) -> list[Step]:
    """Apply the rules to ``model``, in place and in order.

    Args:
        model: an FP32 graph with named nodes, as `edgeir.export.trace` gives it.
        without: names of rules to leave out.
        also: names of rules on request (`edgeir.export.rewrites.catalogue.ON_REQUEST`) to apply as well.
        seen: shown the graph as it came, and again after every rule that fired.

    Returns:
        the waterfall: the graph as it came, then one step per rule.

    Raises:
        UsageError: a rule is unknown.
    """
    require_rules([*without, *also])
    wanted = (name for name in RULES if name not in without and (name not in ON_REQUEST or name in also))
    return apply_rules(model, wanted, seen=seen)


def apply_rules(model: ir.Model, names: Iterable[str], *, seen: Seen = lambda model: None) -> list[Step]:
    """Apply the rules called ``names`` to ``model``, in place and in order; gives the waterfall as `rewrite` does."""
    steps = [Step("", 0, cost_of(model))]
    seen(model)
    for name in names:
        applied = apply_rule(model, name)
        if applied:
            seen(model)
        steps.append(Step(name, applied, cost_of(model) if applied else steps[-1].cost))
    return steps


def apply_rule(model: ir.Model, name: str) -> int:
    """Apply one rule to ``model``, in place, wherever it fires; gives how often it did."""
    applied = RewriteRuleSet(RULES[name]).apply_to_model(model)
    if applied:
        RemoveUnusedNodesPass()(model)
        _name_new(model.graph)
        ShapeInferencePass()(model)
    return applied


def _name_new(graph: ir.Graph) -> None:
    """Give nodes that a rule made without a name one in the module of what they feed, or of what feeds them."""
    taken = Counter(node.name for node in graph if node.name)
    for node in graph:
        if node.name:
            continue
        users = [user.name for value in node.outputs for user, _ in value.uses() if user.name]
        sources = [value.producer() for value in node.inputs if value is not None]
        makers = [source.name for source in sources if source is not None and source.name]
        near = (makers or users or [ROOT_MODULE])[0]
        stem = f"{module_of(near)}/{node.op_type}"
        count = 1
        node.name = stem
        while taken[node.name]:
            count += 1
            node.name = f"{stem}_{count}"
        taken[node.name] += 1


@dataclass(frozen=True, slots=True)
class Miss:
    """Where a rule came nearest to firing, and what kept it from it.

    Attributes:
        node: name of the node that the pattern was tried at.
        matched: names of the nodes that did match.
        reason: why it did not fire; ``""`` where it would.
    """

    node: str
    matched: tuple[str, ...]
    reason: str

    @property
    def fires(self) -> bool:
        """Whether it would fire here."""
        return not self.reason


def explain(model: ir.Model, rule: str) -> list[Miss]:
    """Where ``rule`` would fire on ``model``, or else its nearest misses; the graph stays as it is.

    Raises:
        UsageError: unknown rule.
    """
    require_rules([rule])
    model = ir.from_proto(ir.to_proto(model))  # trying a rule leaves nodes behind that use the graph's values
    found: list[tuple[int, Miss]] = []
    for entry in RULES[rule]:
        tracer = MatchingTracer()
        RewriteRuleSet([entry]).apply_to_model(model, tracer=tracer)
        for match in tracer.best_matches_map.get(entry, []):
            fires = match.status == MatchStatus.SUCCESS
            reason = "" if fires else match.match_result.reason or "the graph has another shape here"
            matched = tuple(node.name or node.op_type for node in match.match_result.nodes)
            found.append((match.score(), Miss(match.root_node.name or "", matched, reason)))
    best = max((score for score, _ in found), default=0)
    return [miss for score, miss in found if score == best]
