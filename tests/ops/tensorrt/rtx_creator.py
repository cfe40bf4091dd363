"""In a process of its own: what TensorRT-RTX's parser does with our nodes when a creator of them is registered.

python rtx_creator.py MODEL none | python | LIBRARY
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorrt_rtx as trt


class Log(trt.ILogger):
    """What is said of our ops, line by line."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)

    def log(self, severity: object, message: str) -> None:
        if "Edgeir" in message:
            print(f"log {message.splitlines()[0]}", flush=True)


class Creator(trt.IPluginCreatorV3One):
    """Says what it is asked for, and makes nothing."""

    def __init__(self) -> None:
        trt.IPluginCreatorV3One.__init__(self)
        self.name, self.plugin_namespace, self.plugin_version = "EdgeirKeyGraph", "edgeir", "1"
        field = trt.PluginField("k", np.array([], dtype=np.int32), trt.PluginFieldType.INT32)
        self.field_names = trt.PluginFieldCollection([field])

    def create_plugin(self, name: str, fields: object, phase: object) -> None:
        """Called by the parser."""
        given = {field.name: (field.type.name, np.asarray(field.data).tolist()) for field in fields}  # type: ignore[attr-defined]
        print(f"created with {given}", flush=True)


def main() -> None:
    """Register, parse, say how it ended."""
    model, what = sys.argv[1:]
    logger = Log()
    registry = trt.get_plugin_registry()
    creator = Creator()
    if what == "python":
        registry.register_creator(creator, "edgeir")
    elif what != "none":
        registry.load_library(what)
    found = sorted(one.name for one in registry.all_creators if one.plugin_namespace == "edgeir")
    print(f"creators {found}", flush=True)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    print(f"parsed {parser.parse(Path(model).read_bytes())}", flush=True)


if __name__ == "__main__":
    main()
