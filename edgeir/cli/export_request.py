"""What an export was asked for, and what follows from that alone: network, destination, sizes, budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgeir.bundle import bundle_name
from edgeir.calibrate.planner import Loss
from edgeir.cli.calibrating import CalibrationRequest
from edgeir.cli.planning import require_truth, usual_budget
from edgeir.errors import GraphError
from edgeir.export.graph import TraceShape
from edgeir.export.runtimes import Runtime
from edgeir.imaging.byte_formats import ByteFormat
from edgeir.manifest import AxisRange
from edgeir.models.build import LoadedModel
from edgeir.models.checkpoint import load_checkpoint
from edgeir.models.loading import load_named, reconfigure
from edgeir.precision import Precision, PrecisionPlan, read_plan
from edgeir.runtime.restore import GraphInput
from edgeir.spec import INPUT_NAME, ModelSpec, TensorSpec


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What the command line asked for; exactly one of ``model`` and ``checkpoint`` is set.

    ``io`` is the format of the bytes that graphs are to take and give as well; ``None`` for floats alone.
    """

    model: str | None
    checkpoint: Path | None
    precision: Precision
    shape: TraceShape
    targets: tuple[str, ...] | None
    k: int | None
    runtimes: tuple[Runtime, ...]
    plugins: bool
    without: tuple[str, ...]
    also: tuple[str, ...]
    plan: Path | None
    calibration: CalibrationRequest | None
    budget: Loss | None
    tiles: bool
    out: Path
    force: bool
    io: ByteFormat | None = None

    @property
    def stages(self) -> int:
        """Of the work."""
        return 6 + 2 * (self.calibration is not None)

    @property
    def chooses_layers(self) -> bool:
        """Whether layers in eight bits are still to be chosen: no plan names them."""
        return self.calibration is not None and self.plan is None

    def load(self) -> LoadedModel:
        """The network.

        Raises:
            UsageError, CheckpointError: there is none of this name, or the weights cannot be used.
        """
        overrides = {} if self.k is None else {"k": self.k}
        if self.checkpoint is not None:
            return reconfigure(load_checkpoint(self.checkpoint), overrides)
        assert self.model is not None
        return load_named(self.model, overrides=overrides)

    def require_size(self, spec: ModelSpec) -> None:
        """Raise ``UsageError`` where the network, or the format of the bytes, does not take a size asked for."""
        self.shape.require(spec.size)
        if self.io is None:
            return
        dynamic = self.shape.dynamic
        if dynamic is None:
            self.io.require_size(self.shape.height, self.shape.width, where="--size")
        else:
            for size in (dynamic.minimum, dynamic.optimum, dynamic.maximum):
                self.io.require_size(*size, where="--dynamic")

    def destination(self, spec: ModelSpec) -> Path:
        """The bundle's folder."""
        if self.out.suffix == ".edgeir":
            return self.out
        shape = self.shape
        dynamic = shape.dynamic is not None
        return self.out / bundle_name(spec.name, str(self.precision), shape.height, shape.width, dynamic=dynamic)

    def planning_budget(self, spec: ModelSpec) -> Loss | None:
        """What layers in eight bits are chosen for: asked for, or what passes the gates; ``None`` chooses none.

        Raises:
            UsageError: a budget in dB against the truth was asked for, and there are no trained weights or no truth.
        """
        if self.budget is not None:
            require_truth(spec, plans=self.chooses_layers)
        if not self.chooses_layers:
            return None
        if self.budget is not None:
            return self.budget
        return usual_budget() if spec.trained and spec.scale == 1 else None

    def choosing_text(self, budget: Loss | None) -> str:
        """What the stage that chooses layers in eight bits does, for the progress."""
        if self.plan is not None:
            return f"taking the layers in {self.precision} from {self.plan}"
        if budget is None:
            return f"putting every layer into {self.precision} that may be"
        return f"planning for at most {replace(budget, lost_neighbours=0.0)}"

    def given_plan(self) -> PrecisionPlan | None:
        """The user's plan, if any: with layers in eight bits if that is what was asked for, and else without.

        Raises:
            GraphError: the plan is of another precision, or cannot be read.
        """
        if self.plan is None:
            return None
        plan = read_plan(self.plan)
        wanted = self.precision if self.precision.eight_bits else None
        if plan.eight_bit_type is not wanted:
            found = plan.eight_bit_type
            raise GraphError(
                f"the plan has {'no layer in eight bits' if found is None else f'layers in {found}'}",
                where=str(self.plan),
                expected=f"layers in {wanted}" if wanted else "none in eight bits",
                fix=f"Export with --{found} --calibration FOLDER." if found else "Export with --fp16, or name some.",
            )
        return plan


def size_text(shape: TraceShape) -> str:
    """``"256x256"`` or ``"128x128 to 512x512"``."""
    if shape.dynamic is None:
        return f"{shape.height}x{shape.width}"
    low, high = shape.dynamic.minimum, shape.dynamic.maximum
    return f"{low[0]}x{low[1]} to {high[0]}x{high[1]}"


def graph_input_of(shape: TraceShape, spec: ModelSpec) -> GraphInput:
    """Which batches a graph of this shape accepts."""
    size = (shape.height, shape.width)
    low, high = (shape.dynamic.minimum, shape.dynamic.maximum) if shape.dynamic else (size, size)
    return GraphInput(shape.batch, low, size, high, spec.size, spec.scale)


def input_spec(shape: TraceShape, spec: ModelSpec) -> TensorSpec:
    """The input of ``model.onnx``, for the manifest."""
    sides: tuple[int | str, int | str] = ("H", "W") if shape.dynamic else (shape.height, shape.width)
    return TensorSpec(INPUT_NAME, (shape.batch, spec.channels, *sides))


def axis_ranges(shape: TraceShape) -> dict[str, AxisRange]:
    """Bounds of its dynamic sides, for the manifest."""
    if shape.dynamic is None:
        return {}
    low, best, high = shape.dynamic.minimum, shape.dynamic.optimum, shape.dynamic.maximum
    return {letter: AxisRange(low[i], best[i], high[i]) for i, letter in enumerate("HW")}
