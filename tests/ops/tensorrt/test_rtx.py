"""NVIDIA's own parser picks the plugin where one is registered and the body where none is: TensorRT-RTX says so.

TensorRT-RTX has no plugins, so it cannot go further than making one: it refuses or ends the process then.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeir.export.engines.builder import can_build

pytestmark = pytest.mark.skipif(not can_build("rtx"), reason="tensorrt_rtx is not installed: its parser is not asked")
PLUGIN = "log Found registered plugin: EdgeirKeyGraph. Importing this node as a plugin."
BODY = "log Found registered local function: EdgeirKeyGraph. Importing as a local function."


def parse(model: Path, what: object) -> list[str]:
    script = Path(__file__).with_name("rtx_creator.py")
    done = subprocess.run([sys.executable, str(script), str(model), str(what)], capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def test_without_a_plugin_the_body_is_used(micro: Callable[..., Any]) -> None:
    said = parse(micro("kgt").path, "none")
    assert said[0] == "creators []"
    assert BODY in said
    assert PLUGIN not in said
    assert said[-1] == "parsed True"


def test_a_registered_creator_is_found_and_gets_its_attributes(micro: Callable[..., Any]) -> None:
    said = parse(micro("kgt").path, "python")
    assert said[0] == "creators ['EdgeirKeyGraph']"
    assert PLUGIN in said
    assert BODY not in said
    assert "log Searching for plugin: EdgeirKeyGraph, plugin_version: 1, plugin_namespace: edgeir" in said
    assert any(line.startswith("created with {'k': ('INT32', ") for line in said)
    assert said[-1] == "parsed False"  # the creator makes nothing


def test_our_library_is_loaded_and_makes_the_plugin(
    micro: Callable[..., Any], headers: Path, plugin_library: Callable[[Path], Path]
) -> None:
    said = parse(micro("kgt").path, plugin_library(headers))
    assert said[0] == "creators ['EdgeirGstAttention', 'EdgeirKeyGraph', 'EdgeirKeyGraphAttention']"
    assert PLUGIN in said
    assert "log Successfully created plugin: EdgeirKeyGraph" in said
    assert not said[-1].startswith("parsed")  # adding the layer ends the process
