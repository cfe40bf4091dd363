"""Whether an ONNX file keeps weights in other files, found without the ONNX tools and before a runtime opens it.

An ONNX tensor may name a file that its values lie in, and a runtime would open it: any file, also outside the bundle.
edgeir writes whole files only, so a graph that names another is not one of its own and is refused. What is read here is
the nesting of protobuf messages and nothing else: ``onnx.proto``'s field numbers, of those messages that can hold a
tensor. They never change.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgeir.errors import GraphError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor

# Message -> field number -> message, for all that lies between a model and its tensors.
_HOLDS: Mapping[str, Mapping[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}


def require_self_contained(path: Path) -> None:
    """Refuse a graph that names other files.

    Raises:
        GraphError: it does, it is no protobuf message at all, or it cannot be read.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = external_file(data)
    except OSError as error:
        raise GraphError("the graph cannot be read", where=path.name, got=error.strerror) from error
    except (ValueError, IndexError) as error:  # mmap's word for an empty file, and ours for one that ends in a field
        raise GraphError("this is not an ONNX file", where=path.name, fix="Copy or export the bundle again.") from error
    if found is not None:
        raise GraphError(
            "the graph keeps weights in another file, which a bundle's graphs never do",
            where=path.name,
            got=repr(found),
            fix="Export the bundle again.",
        )


def external_file(data: bytes | mmap.mmap) -> str | None:
    """The first other file that a serialized ``ModelProto`` names, ``""`` for a nameless one; ``None`` without any.

    Raises:
        ValueError, IndexError: the bytes are no such message.
    """
    pending = [("Model", 0, len(data))]
    while pending:
        message, start, end = pending.pop()
        holds = _HOLDS[message]
        for field, kind, low, high in _fields(data, start, end):
            if message == "Tensor" and field == _EXTERNAL_DATA and kind == _BYTES:
                return _location(data, start, end)
            if message == "Tensor" and field == _DATA_LOCATION and kind == _VARINT and low != 0:
                return _location(data, start, end)
            if kind == _BYTES and field in holds:
                pending.append((holds[field], low, high))
    return None


def _location(data: bytes | mmap.mmap, start: int, end: int) -> str:
    """The value of the key "location" among the entries of one tensor."""
    for field, kind, low, high in _fields(data, start, end):
        if field == _EXTERNAL_DATA and kind == _BYTES:
            entry = {number: data[a:b] for number, sort, a, b in _fields(data, low, high) if sort == _BYTES}
            if entry.get(1) == b"location":
                return entry.get(2, b"").decode(errors="replace")
    return ""


def _fields(data: bytes | mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of the message between two offsets: number, kind, then where its bytes lie, or its value and 0."""
    at = start
    while at < end:
        tag, at = _varint(data, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield field, kind, value, 0
        elif kind == _BYTES:
            length, at = _varint(data, at)
            if at + length > end:
                raise ValueError("a field is longer than its message")
            yield field, kind, at, at + length
            at += length
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} is in no ONNX file")


def _varint(data: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
