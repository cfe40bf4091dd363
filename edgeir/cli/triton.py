"""``edgeir triton``: a bundle as models of a Triton Inference Server."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgeir.cli.console import Console, print_result

if TYPE_CHECKING:
    from edgeir.report.value import Report
    from edgeir.serving.triton_repository import Publication

_ON_ORIN = " (Jetson Orin, image YY.MM-py3-igpu)"  # the plain image is for servers, ARM or not


def command(
    bundle: Path = typer.Argument(..., help="A bundle made by 'edgeir export'."),
    repository: Path = typer.Argument(..., metavar="DIR", help="The model repository; made where there is none."),
    force: bool = typer.Option(
        False, "--force", help="Write config.pbtxt anew where it is there already; versions that are there stay."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON value."),
) -> None:
    """Write a bundle into a model repository of Triton Inference Server, as the next version of each of its models."""
    from edgeir.bundle import Bundle
    from edgeir.serving.triton_repository import publish

    require_repository(repository)
    published = publish(Bundle.open(bundle), repository, force=force)
    if as_json:
        print_result(json.dumps({"repository": str(repository), **_value(published)}, indent=2))
    else:
        print_result(_text(published, repository))


def require_repository(repository: Path) -> None:
    """Raise ``OutputError`` where no model repository can be: what takes minutes asks first."""
    from edgeir.serving import triton_repository

    triton_repository.require_repository(repository)


def serve_after_export(bundle: Path, repository: Path, *, as_json: bool) -> None:
    """Publish a new bundle; what became of it goes to stderr after ``--json``, whose value is printed already.

    Raises:
        EdgeIRError: see `edgeir.serving.triton_repository.publish`. The bundle is whole all the same.
    """
    from edgeir.bundle import Bundle
    from edgeir.serving.triton_repository import publish

    text = _text(publish(Bundle.open(bundle), repository), repository)
    if as_json:
        Console().say(text.rstrip())
    else:
        print_result(text)


def _text(published: Publication, repository: Path) -> str:
    from edgeir.report.formats import emit

    return emit(_report(published, repository), "text") + _server_command(published, repository)


def _value(published: Publication) -> dict[str, Any]:
    """JSON-ready form."""
    return {
        "models": [
            {
                "name": each.served.model.name,
                "version": each.version,
                "new": each.is_new,
                "config": each.config,
                "backend": each.served.model.backend,
                "file": each.served.artifact.path,
                "gpu": each.served.architecture or None,
            }
            for each in published.models
        ],
        "left_out": list(published.left_out),
    }


def _report(published: Publication, repository: Path) -> Report:
    """A row per model."""
    from edgeir.report.value import Report, Table

    added = sum(each.is_new for each in published.models)
    return Report(
        title=f"Model repository {repository}",
        summary=f"{added} of {len(published.models)} models got a new version.",
        tables=(
            Table(
                title="Models",
                columns=("name", "version", "backend", "from", "takes", "config.pbtxt"),
                rows=tuple(
                    (
                        each.served.model.name,
                        f"{each.version}{'' if each.is_new else ', as it was'}",
                        each.served.model.backend,
                        each.served.artifact.path,
                        " ".join(map(str, each.served.model.inputs[0].shape)) + f" {each.served.model.inputs[0].dtype}",
                        each.config,
                    )
                    for each in published.models
                ),
                note="-1: a request chooses. Checked against Triton's schema; no Triton server has run it yet.",
            ),
        ),
        notes=(
            *published.left_out,
            *(f"{each.served.artifact.path}: {each.served.note}" for each in published.models if each.served.note),
        ),
    )


def _server_command(published: Publication, repository: Path) -> str:
    """How to serve it: the graphs, which load anywhere, and what to add on a server that has an engine's GPU."""
    load: dict[str, str] = {}
    for each in published.models:
        gpu = each.served.architecture
        load[gpu] = f"{load.get(gpu, '')} --load-model={each.served.model.name}"
    mounted = shlex.quote(f"{repository.absolute()}:/models")
    text = (
        "Next, YY.MM being a release of Triton:\n"
        f"  docker run --rm --gpus all -p 8000:8000 -p 8001:8001 -v {mounted} "
        "nvcr.io/nvidia/tritonserver:YY.MM-py3 tritonserver --model-repository=/models "
        f"--model-control-mode=explicit{load.pop('')}\n"
    )
    if load:
        text += (
            "An engine loads on its GPU and in its TensorRT alone, and one that does not load stops the whole server, "
            "unless that is given --exit-on-error=false. Add, where the GPU is\n"
        )
        text += "".join(f"  {gpu}{_ON_ORIN if gpu == 'sm87' else ''}:{names}\n" for gpu, names in load.items())
    return text
