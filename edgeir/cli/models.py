"""``edgeir models``: the zoo."""

from __future__ import annotations

import json

import typer

from edgeir.cli.console import print_result


def command(
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """List the named models: parameters, cost at 256x256, size rule, trained or untrained."""
    from edgeir.models.registry import VARIANTS, weights_state

    rows = [
        {
            "name": name,
            "architecture": variant.architecture,
            "description": variant.description,
            "parameters": variant.parameters,
            "gmac_256": variant.gmac_256,
            "gmac_256_fast": variant.gmac_256_fast,
            "scale": variant.scale,
            "multiple": variant.multiple,
            "weights": weights_state(name),
        }
        for name, variant in VARIANTS.items()
    ]
    if as_json:
        print_result(json.dumps(rows, indent=2))
        return
    from edgeir.report.formats import emit
    from edgeir.report.value import Report, Table

    table = Table(
        title="Models",
        columns=("name", "parameters", "GMAC", "exported", "sides", "scale", "weights", "what it is"),
        rows=tuple(
            (
                str(row["name"]),
                f"{row['parameters']:,}",
                f"{row['gmac_256']:.1f}",
                f"{row['gmac_256_fast']:.1f}",
                f"k*{variant.multiple}",
                variant.scale,
                str(row["weights"]),
                variant.description,
            )
            for row, variant in zip(rows, VARIANTS.values(), strict=True)
        ),
        note="GMAC: 1e9 multiply-accumulates of convolutions and matrix products at 256x256, as published and as "
        "exported. Sides: what height and width must be multiples of; edgeir run pads any picture.",
    )
    print_result(emit(Report(title="edgeir models", summary=f"{len(rows)} named models.", tables=(table,)), "text"))
