"""Write the model cards of the shipped weights from their training records and from what was measured.

python tools/model_cards.py            writes edgeir/models/weights/NAME.md for every NAME.safetensors there
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "edgeir" / "models" / "weights"
RESULTS = ROOT / "benchmarks" / "results" / "restoration-cpu.json"

TASKS = {
    "exda-tiny": "all-in-one restoration: noise, rain, haze, Gaussian blur, low light, JPEG and two mixtures",
    "cea-tiny": "all-in-one restoration: noise, rain, haze, Gaussian blur, low light, JPEG and two mixtures",
    "kgt-tiny": "blind removal of Gaussian colour noise",
}

LEAST_GAIN_DB = 0.25
"""Below it nothing was restored worth the name."""

VISIBLE_LOSS_DB = 0.1

CHOSEN_BY_EYE = (
    "That the mean of the last two parts was to be kept, and neither of the two, was decided by the rows haze and "
    "jpeg-20 of this table: those two are a little flattering."
)

LIMITS = (
    "Trained on synthetic degradations of 32 photographs, for nine hours at most and without a GPU: a small "
    "network that shows the whole path on pictures that do get better, not a state of the art. Real rain, real haze "
    "and real sensors look different. A naturally dark or hazy picture may be taken for a degraded one."
)


def card(name: str, record: dict[str, Any], measured: list[dict[str, Any]], pictures: int, crop_px: int) -> str:
    """The card of one variant, Markdown."""
    if {row["weights_sha256"] for row in measured} != {record["loaded_sha256"]}:
        raise SystemExit(f"{name}: the results were measured on other weights; run benchmarks.restoration again")
    runs = list(_runs(record))
    minutes = sum(run["seconds"] for run in runs) / 60
    chosen = "best on held-out pictures" if record["chosen"] == "best" else "the last step's"
    if record.get("averaged_with"):
        other = next((run["recipe"] for run in runs if run["loaded_sha256"] == record["averaged_with"]), None)
        if other is None:
            raise SystemExit(f"{name}: its record has no run of the weights it was averaged with")
        chosen += f", and their mean with those of `{other}`"
    flattering = " " + CHOSEN_BY_EYE if record.get("averaged_with") else ""
    lines = [
        f"# {name}",
        "",
        f"Weights trained for {TASKS[name]}. float16, {(WEIGHTS / f'{name}.safetensors').stat().st_size / 1e6:.1f} MB.",
        "",
        "| | |",
        "|---|---|",
        *(row for run in runs[:-1] for row in _run_rows(run, "begun with")),
        *_run_rows(record, "recipe"),
        f"| on | {record['hardware']} |",
        f"| for | {minutes:.0f} minutes in all, validation included |",
        f"| kept | averaged weights, {chosen} |",
        f"| with | {', '.join(f'{package} {version}' for package, version in record['versions'].items())} |",
        f"| weights | sha256 {record['weights_sha256']} |",
        "| pictures | 32 photographs of Debian's packages lomiri-wallpapers-16.04, lomiri-wallpapers-20.04, "
        "mate-backgrounds and plasma-workspace-wallpapers, halved by area, 319 tiles of 320x320; three more for "
        "validation. CC-BY-4.0, CC-BY-SA-3.0, CC-BY-SA-4.0, CC0-1.0 and GPL-2+, picture by picture in each package's "
        "copyright file. None is part of edgeir. |",
        "",
        "## What it restores",
        "",
        f"Mean PSNR in dB (float, RGB) over {pictures} measuring pictures, squares of {crop_px} pixels, none of them "
        "trained on; PyTorch FP32. `python -m benchmarks.restoration` measures it again.",
        "",
        "| condition | input | output | gain | least gain | FFDNet, σ given |",
        "|---|---:|---:|---:|---|---:|",
        *(_row(row) for row in measured),
        "",
        "A clean picture has no gain: its least is the lowest PSNR to itself. FFDNet: its own published weights, told "
        f"the noise level.{flattering}",
        "",
        "## Limits",
        "",
        f"{_not_restored(measured)}{LIMITS}",
        "",
    ]
    return "\n".join(lines)


def _runs(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The runs that the weights went through, the first one first."""
    if record.get("before"):
        yield from _runs(record["before"])
    yield record


def _run_rows(record: dict[str, Any], label: str) -> list[str]:
    """Recipe and extent of one run."""
    return [
        f"| {label} | `{record['recipe']}` (sha256 {record['recipe_sha256'][:12]}) |",
        f"| trained | {record['steps']:,} steps, {record['patches']:,} patches, "
        f"{record['pixels'] / 1e6:.1f} megapixels |",
    ]


def _not_restored(rows: list[dict[str, Any]]) -> str:
    """Sentences on the conditions that it leaves as they are or makes worse, or nothing."""
    gains = {row["condition"]: row["gain_db"] for row in rows if row["gain_db"] is not None}
    worse = [f"{name} ({gain:+.2f} dB)" for name, gain in gains.items() if gain < -VISIBLE_LOSS_DB]
    idle = [name for name, gain in gains.items() if -VISIBLE_LOSS_DB <= gain < LEAST_GAIN_DB]
    text = f"**It makes pictures worse that suffer from {', '.join(worse)}.** " if worse else ""
    return text + (f"**It does not restore {', '.join(idle)}**: the gain is below {LEAST_GAIN_DB} dB. " if idle else "")


def _row(row: dict[str, Any]) -> str:
    gain = "–" if row["gain_db"] is None else f"{row['gain_db']:+.2f}"
    least = f"{row['least_db']:.2f}, {row['least']}"
    figures = [f"{row[key]:.2f}" if row[key] is not None else "–" for key in ("input_db", "output_db", "ffdnet_db")]
    return f"| {row['condition']} | {figures[0]} | {figures[1]} | {gain} | {least} | {figures[2]} |"


def cards() -> dict[Path, str]:
    """Every card by its path, as it should be."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    found = {}
    for weights in sorted(WEIGHTS.glob("*.safetensors")):
        name = weights.stem
        record = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
        measured = [row for row in results["rows"] if row["model"] == name]
        setting = results["setting"]
        text = card(name, record, measured, len(setting["pictures"]), setting["crop_px"])
        found[weights.with_suffix(".md")] = text
    return found


def main() -> None:
    """Write them."""
    for path, text in cards().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
