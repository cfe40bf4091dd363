"""Bundles for a server, and Triton's own schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, text_format

from edgeir.bundle import Bundle, BundleWriter
from edgeir.manifest import AxisRange, EngineNote, Manifest
from edgeir.provenance import collect
from edgeir.spec import INPUT_NAME, ModelSpec, SizeRule, TensorSpec

SCHEMA = Path(__file__).with_name("model_config.json")


@pytest.fixture(scope="session")
def parse() -> Callable[[str], Any]:
    """``parse(text)``: a config.pbtxt as Triton's message; unknown fields and wrong types are errors."""
    file = json_format.ParseDict(json.loads(SCHEMA.read_text(encoding="utf-8")), descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))
    return lambda text: text_format.Parse(text, kind(), descriptor_pool=pool)


MakeBundle = Callable[..., Bundle]


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """``make_bundle(graph=b"...", engines=[...])``: a bundle of made-up files, to look at and to copy."""

    def make(
        name: str = "made",
        *,
        graph: bytes = b"a graph",
        shape: tuple[int | str, ...] = (1, 3, 64, 96),
        ranges: dict[str, AxisRange] | None = None,
        batch: int = 1,
        scale: int = 1,
        byte_graphs: tuple[str, ...] = (),
        engines: tuple[EngineNote, ...] = (),
        parents: dict[str, str] | None = None,
    ) -> Bundle:
        with BundleWriter(tmp_path / f"{name}.edgeir", force=True) as writer:
            writer.path("model.onnx").write_bytes(graph)
            writer.add("model.onnx", "model")
            for file in byte_graphs:
                writer.path(file).write_bytes(graph + file.encode())
                writer.add(file, "bytes", parents=("model.onnx",))
            for note in engines:
                if note.path is not None:
                    writer.path(note.path).write_bytes(note.path.encode())
                    writer.add(note.path, "engine", parents=((parents or {}).get(note.path, "model.onnx"),))
            path = writer.commit(
                Manifest(
                    name="made-up",
                    precision="fp16",
                    input=TensorSpec(INPUT_NAME, shape),
                    ranges=ranges or {},
                    batch=batch,
                    model=ModelSpec("made-up", "exda", {}, SizeRule(8, 16), scale=scale),
                    provenance=collect(seconds=0.0),
                    engines=engines,
                )
            )
        return Bundle.open(path)

    return make
