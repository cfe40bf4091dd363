"""The commands of README.md do what it says: every block is executed, or says in a comment why it is not.

A fenced ``console``, ``bash`` or ``python`` block runs in one temporary folder shared by all blocks, in order. In a
``console`` block the lines after ``$ `` run and the others are what they print, for the reader. A comment
``<!-- not run: REASON -->`` on the line before a block leaves it out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUN = {"console", "bash", "python"}
SECONDS_PER_BLOCK = 1500
_FENCE = re.compile(r"^(?P<indent>\s*)(?P<marks>`{3,})(?P<language>\w*)\s*$")
_NOT_RUN = re.compile(r"^\s*<!--\s*not run:\s*(?P<reason>.+?)\s*-->\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, the line it starts on, and why it is not run."""

    language: str
    text: str
    line: int
    reason: str | None

    @property
    def code(self) -> str:
        """What is executed."""
        return commands(self.text) if self.language == "console" else self.text


def blocks(text: str) -> list[Block]:
    """Every fenced block of a Markdown text that has a language of `RUN`."""
    found, body = [], None
    reason, start, language, fence = None, 0, "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if body is None:
            if match := _FENCE.match(line):
                body, start, language, fence = [], number, match["language"], match["marks"]
            elif match := _NOT_RUN.match(line):
                reason = match["reason"]
            elif line.strip():
                reason = None
        elif line.strip() == fence:
            if language in RUN:
                found.append(Block(language, "\n".join(body), start, reason))
            body, reason = None, None
        else:
            body.append(line)
    return found


def commands(text: str) -> str:
    """The commands of a console block: ``$ `` lines, and the lines that a backslash or ``> `` continues."""
    lines, goes_on = [], False
    for line in text.splitlines():
        if line.startswith("$ "):
            lines.append(line[2:])
        elif goes_on or (lines and line.startswith("> ")):
            lines.append(line.removeprefix("> "))
        else:
            continue
        goes_on = lines[-1].endswith("\\")
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.timeout(3000)  # twelve minutes alone on two cores; other tests and slower machines take their share
def test_the_readme_runs(tmp_path: Path) -> None:
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    for block in blocks((ROOT / "README.md").read_text(encoding="utf-8")):
        if block.reason:
            print(f"README.md:{block.line}: not run: {block.reason}")
            continue
        command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
        result = subprocess.run(
            [*command, block.code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS_PER_BLOCK,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert result.returncode == 0, (
            f"README.md:{block.line}: exit code {result.returncode}\n{block.code}\n{result.stdout}{result.stderr}"
        )


def test_blocks_are_found() -> None:
    text = """
```console
$ edgeir export \\
    --model exda-tiny
wrote x
$ ls
```
text
<!-- not run: needs a Jetson -->

```bash
jetson
```
```python
print(1)
```
```text
not code
```
<!-- not run: forgotten -->
words in between
````bash
echo '```'
````
"""
    found = blocks(text)
    assert [(block.language, block.line, block.reason) for block in found] == [
        ("console", 2, None),
        ("bash", 11, "needs a Jetson"),
        ("python", 14, None),
        ("bash", 22, None),
    ]
    assert found[0].code == "edgeir export \\\n    --model exda-tiny\nls"
    assert found[3].code == "echo '```'"
