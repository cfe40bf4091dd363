"""Every ``edgeir`` command that the documentation names exists, with the options that it is given; so does every link.

Fenced ``console`` and ``powershell`` blocks are held against the parser itself: unknown commands and options, missing
arguments and values of the wrong kind fail. What stands in backticks within a sentence is often a part of a command, so
that only its command and its options are looked up.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from edgeir.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`(edgeir\s[^`]+)`(?!`)")
_PROMPT = re.compile(r"^(?:\$|PS>) ")
_ENDS = frozenset({"|", "||", "&&", ";", ">", ">>", "<", "&", "(", ")"})
_ROOT = typer.main.get_command(app)
# Commands that hand further options on to another: `edgeir device build NAME BUNDLE --target tensorrt`.
_HANDED_ON = {("device", "build"): "build", ("device", "bench"): "bench", ("device", "run"): "run"}


def commands_in(text: str) -> Iterator[list[str]]:
    """The words after ``edgeir`` of every call in a piece of shell, up to the end of each."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] | None = None
    for token in [*lexer, ";"]:
        if token in _ENDS:
            if words is not None:
                yield words
            words = None
        elif words is not None:
            words.append(token)
        elif token == "edgeir":
            words = []


def fenced(page: str) -> Iterator[str]:
    """Lines that somebody types, continued ones joined."""
    for language, body in _FENCE.findall(page):
        if language in ("console", "powershell"):
            for line in body.replace("\\\n", " ").splitlines():
                if _PROMPT.match(line):
                    yield _PROMPT.sub("", line)


def find(words: list[str]) -> tuple[Any, list[str], list[str]]:
    """The command, its path and the words that are its own; ``LookupError`` for an unknown one."""
    command: Any = _ROOT
    path: list[str] = []
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        if words[0] not in command.commands:
            raise LookupError(f"there is no command 'edgeir {' '.join([*path, words[0]])}'")
        path.append(words[0])
        command, words = command.commands[words[0]], words[1:]
    return command, path, words


def options_of(command: Any) -> set[str]:
    return {"--help", "--debug"} | {
        name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
    }


def unknown_options(words: list[str]) -> list[str]:
    command, path, rest = find(words)
    known = options_of(command)
    if other := _HANDED_ON.get(tuple(path)):  # type: ignore[call-overload]
        known |= options_of(_ROOT.commands[other])  # type: ignore[attr-defined]
    return [word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known]


def require_parsed(words: list[str]) -> None:
    """Let the parser read a whole call without running it.

    Raises:
        Exception: what the parser finds wrong.
    """
    words = [word for word in words if word != "--debug"]
    command, path, rest = find(words)
    if "--help" in rest or hasattr(command, "commands"):
        return
    command.make_context(" ".join(["edgeir", *path]), rest)


def wrong_in(page: str) -> list[str]:
    """One line per call that cannot be made."""
    found = []
    for line in fenced(page):
        for words in commands_in(line):
            try:
                if unknown := unknown_options(words):
                    raise LookupError(f"unknown options {unknown}")
                if "..." not in words:
                    require_parsed(words)
            except Exception as error:
                reason = error.format_message() if hasattr(error, "format_message") else str(error)
                found.append(f"{line}: {reason}")
    for text in _INLINE.findall(_FENCE.sub("", page)):
        try:
            for words in commands_in(" ".join(text.split()).replace("'", "").replace("...", "")):
                if unknown := unknown_options(words):
                    raise LookupError(f"unknown options {unknown}")
        except (LookupError, ValueError) as error:
            found.append(f"`{text}`: {error}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_exists(page: Path) -> None:
    wrong = wrong_in(page.read_text(encoding="utf-8"))
    assert not wrong, "\n" + "\n".join(wrong)


def anchors_of(page: str) -> set[str]:
    """What headings are called in links: lower case, blanks to dashes, no other punctuation."""
    titles = re.findall(r"^#+ (.*)$", _FENCE.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(file: Path, page: str) -> list[str]:
    """Links to files that are not there, or to headings that a page does not have."""
    found = []
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", re.sub(r"`[^`]*`", "", _FENCE.sub("", page))):
        if "://" in target:
            continue
        path = file.parent / target if target else file
        if target and not path.exists():
            found.append(target)
        elif anchor and anchor not in anchors_of(page if not target else path.read_text(encoding="utf-8")):
            found.append(f"{target}#{anchor}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_a_planted_broken_link_is_found() -> None:
    page = "# A title, here\n[a](absent.md) [b](README.md) [c](#a-title-here) [d](#nowhere) [e](https://x.org/y)\n"
    assert broken_links(ROOT / "a.md", page) == ["absent.md", "#nowhere"]


def test_the_pages_name_commands() -> None:
    calls = [
        words for page in PAGES for line in fenced(page.read_text(encoding="utf-8")) for words in commands_in(line)
    ]
    named = {" ".join(find(words)[1]) for words in calls}
    assert named >= {"export", "run", "bench", "plan-size", "triton", "device add", "plugins build"}


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("```console\n$ edgeir exprot --model exda-tiny\n```\n", "no command 'edgeir exprot'"),
        ("```console\n$ edgeir plugins biuld\n```\n", "no command 'edgeir plugins biuld'"),
        ("```console\n$ edgeir export --modle exda-tiny\n```\n", "unknown options ['--modle']"),
        ("```console\n$ cd x && edgeir run made.edgeir picture.png\n```\n", "--output"),
        ("```console\n$ edgeir run made.edgeir \\\n    picture.png -o out.png --tile wide\n```\n", "wide"),
        ("```powershell\nPS> edgeir run a b c -o d\n```\n", "nexpected extra argument"),
        ("Call `edgeir doktor` first.\n", "no command 'edgeir doktor'"),
        ("Call `edgeir bench B --wormup 3`.\n", "unknown options ['--wormup']"),
        ("```console\n$ edgeir device build orin made.edgeir --tagret rtx\n```\n", "unknown options ['--tagret']"),
    ],
)
def test_a_planted_mistake_is_found(page: str, says: str) -> None:
    (found,) = wrong_in(page)
    assert says in found


def test_what_is_right_passes() -> None:
    page = (
        "```console\n$ OMP_NUM_THREADS=1 edgeir bench made.edgeir --rounds 5 > bench.txt; edgeir doctor | less\n"
        "a line of output: edgeir is not called here\n$ torchrun --nproc-per-node 2 --no-python edgeir train quick\n"
        "$ edgeir device build orin made.edgeir --target tensorrt\n$ edgeir export ... --for jetpack-6.2 --plugins\n"
        "$ edgeir lint made.edgeir --for jetpack-6.0 || test $? = 1\n$ edgeir plugins --help\n```\n"
        "`edgeir run` and `edgeir export ... --fp16` and `edgeir device add|doctor|push`\n"
    )
    assert wrong_in(page) == []
