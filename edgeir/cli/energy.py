"""Joules per picture for bench: idle first, then one backend alone for a while, by the best meter that answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeir.errors import MissingDependency
from edgeir.report.value import Table
from edgeir.runtime.availability import ON_GPU
from edgeir.runtime.power import MeterSearch, PowerMeter
from edgeir.runtime.power_pictures import PictureEnergy, energy_per_picture
from edgeir.runtime.power_recorder import EnergyRecorder, idle_watts

IDLE_S = 5.0
BUSY_S = 5.0


@dataclass(frozen=True, slots=True)
class EnergyFound:
    """What one picture cost, or a sentence that says why nobody knows."""

    picture: PictureEnergy | None
    reason: str | None = None


def meters_for(backend: str, search: MeterSearch) -> tuple[PowerMeter, ...]:
    """Meters that see the work of a backend, best first: a graphics card's own only where the card does it."""
    return search.meters if backend in ON_GPU else search.of_processors


def measure_energy(
    run: Callable[[], object],
    meters: Sequence[PowerMeter],
    reasons: Sequence[str],
    *,
    batch: int,
    idle_s: float = IDLE_S,
    busy_s: float = BUSY_S,
) -> EnergyFound:
    """Energy of one picture by the first meter.

    Args:
        run: restores one batch.
        meters: of `meters_for`.
        reasons: of `edgeir.runtime.power.search_meters`.
        batch: pictures per run.
        idle_s, busy_s: seconds of doing nothing before, and of work at least.
    """
    if not meters:
        why = " ".join(reasons) or "this machine has none that edgeir knows."
        return EnergyFound(None, f"Power was not measured, no meter answers: {why}")
    meter = meters[0]
    try:
        idle = idle_watts(meter, idle_s)
        runs = 0
        with EnergyRecorder(meter) as recorder:
            until = time.perf_counter() + busy_s
            while runs == 0 or time.perf_counter() < until:
                run()
                runs += 1
        picture = energy_per_picture(recorder.energy, idle, runs * batch)
    except MissingDependency as error:
        return EnergyFound(None, f"Power was not measured: {error}")
    finally:
        meter.close()
    if picture.joules_above_idle <= 0:
        return EnergyFound(
            None,
            f"Power was not measured: {meter.name} showed {idle:.1f} W before the work and {picture.watts:.1f} W "
            "during it, so that something else ran before.",
        )
    return EnergyFound(picture)


def energy_table(picture: PictureEnergy, backend: str) -> Table:
    """One row: what a picture costs with and without what the machine takes anyway."""
    return Table(
        title="Energy of one picture",
        columns=("backend", "J", "J above idle", "mean W", "idle W", "pictures", "seconds"),
        rows=(
            (
                backend,
                picture.joules,
                picture.joules_above_idle,
                picture.watts,
                picture.idle_watts,
                picture.pictures,
                picture.seconds,
            ),
        ),
        note=f"By {picture.meter}. Idle power was measured before, with everything loaded. A camera pays for both; "
        "only the part above idle compares two networks.",
    )
