"""``edgeir``: the entry point. Errors become one message and an exit code here and nowhere else.

Exit codes: 0 done, 1 a check failed, 2 usage or bad input, 3 this environment lacks what is needed, 4 an engine build
failed, 130 interrupted, 143 terminated, 141 nobody reads the output any more, 70 a defect of edgeir itself.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer

from edgeir import __version__
from edgeir.cli import (
    bench,
    build,
    calibrate,
    device,
    doctor,
    export,
    inspect,
    lint,
    models,
    plan_size,
    plugins,
    report,
    run,
    sweep,
    train,
    triton,
    validate,
)
from edgeir.errors import EdgeIRError, MissingDependency

INTERRUPTED = 130
TERMINATED = 143
PIPE_CLOSED = 141
DEFECT = 70

_INTERRUPTED_TEXT = "interrupted, nothing half-written was left behind."

app = typer.Typer(
    name="edgeir",
    help="From an image-restoration checkpoint to an engine on a device, with the loss measured on the way.",
    epilog="--debug anywhere adds the traceback to an error. Results go to stdout, progress to stderr.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("export")(export.command)
app.command("build")(build.command)
app.command("run")(run.command)
app.command("calibrate")(calibrate.command)
app.command("train")(train.command)
app.command("validate")(validate.command)
app.command("bench")(bench.command)
app.command("sweep")(sweep.command)
app.command("report")(report.command)
app.add_typer(plugins.app)
app.add_typer(device.app)
app.command("inspect")(inspect.command)
app.command("lint")(lint.command)
app.command("doctor")(doctor.command)
app.command("models")(models.command)
app.command("plan-size")(plan_size.command)
app.command("triton")(triton.command)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"edgeir {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


class _Terminated(BaseException):
    """SIGTERM, raised where it arrives so that every ``finally`` runs."""


def _raise_terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def main() -> NoReturn:
    """Run the command line and exit."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) != len(sys.argv) - 1
    signal.signal(signal.SIGTERM, _raise_terminated)
    for stream in (sys.stdout, sys.stderr):  # a terminal without our characters gets escapes, not a crash
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not debug and not sys.warnoptions:  # what libraries tell each other says nothing to a user
        warnings.simplefilter("ignore")
    sys.exit(_run(arguments, debug=debug))


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        code = app(args=arguments or ["--help"], prog_name="edgeir", standalone_mode=False)
        sys.stdout.flush()
    except EdgeIRError as error:
        return _fail(str(error), error.exit_code, debug)
    except SystemExit as stop:  # the parser's own way out of a closed pipe
        if isinstance(stop.__context__, BrokenPipeError):
            return _close_quietly()
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except _Terminated:
        return _fail("terminated, nothing half-written was left behind.", TERMINATED, debug)
    except KeyboardInterrupt:
        return _fail(_INTERRUPTED_TEXT, INTERRUPTED, debug)
    except BrokenPipeError:
        return _close_quietly()
    except OSError as error:
        from edgeir.storage import storage_error

        where = error.filename if isinstance(error.filename, (str, os.PathLike)) else "."
        refused = storage_error(error, Path(where))
        return _fail(str(refused), refused.exit_code, debug)
    except Exception as error:
        if hasattr(error, "format_message"):  # how every error of the argument parser says what it is
            return _fail(_usage_text(error), 2, debug)
        if isinstance(error, MemoryError) or "allocate memory" in str(error):  # torch's and ONNX Runtime's words
            text = "this needs more memory than there is here. Choose a smaller size, tile or batch."
            return _fail(text, MissingDependency.exit_code, debug)
        text = f"{type(error).__name__}: {error}. This is a defect of edgeir: run again with --debug and report it."
        return _fail(text, DEFECT, debug)
    if code == INTERRUPTED:  # the parser turns Ctrl-C into this value
        return _fail(_INTERRUPTED_TEXT, INTERRUPTED, debug)
    return code if isinstance(code, int) else 0


def _usage_text(error: Any) -> str:
    """The parser's error as one sentence, and where the help is."""
    command = error.ctx.command_path if getattr(error, "ctx", None) else "edgeir"
    text = error.format_message()
    return f"{text}{'' if text.endswith(('.', '?')) else '.'} See '{command} --help'."


def _close_quietly() -> int:
    """Let nothing more be written to a pipe that nobody reads: the interpreter would complain while it exits."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return PIPE_CLOSED


def _fail(message: str, code: int, debug: bool) -> int:
    if debug and sys.exc_info()[0] is not None:
        traceback.print_exc()
    sys.stderr.write(f"edgeir: {' '.join(message.splitlines())}\n")
    return code


if __name__ == "__main__":
    main()
