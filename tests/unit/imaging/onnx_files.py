"""Small ONNX models, written byte by byte: they are real files for ONNX Runtime, without the package that makes them.

The format is that of onnx.proto3 (field numbers in the comments of each message there), wire format of protobuf.
"""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["brightness_model", "channels_model", "write_sam"]

_IR_VERSION, _OPSET, _FLOAT, _INTS = 8, 11, 1, 7


def brightness_model() -> bytes:
    """(1, 3, h, w) to (1, 1, h, w): the mean of the channels."""
    return _model([_node("ReduceMean", ["in"], ["out"], axes=[1])], inputs={"in": 4}, outputs={"out": 4})


def channels_model() -> bytes:
    """(1, 3, h, w) as it is: the class of a pixel is its strongest channel."""
    return _model([_node("Identity", ["in"], ["out"])], inputs={"in": 4}, outputs={"out": 4})


def write_sam(folder: Path) -> None:
    """An encoder (h, w, 3) to (1, h, w), and a decoder that marks what is brighter than the mean of that."""
    encoder = _model(
        [_node("Transpose", ["in"], ["first"], perm=[2, 0, 1]), _node("ReduceMean", ["first"], ["out"], axes=[0])],
        inputs={"in": 3},
        outputs={"out": 3},
    )
    decoder = _model(
        [
            _node("ReduceMean", ["image_embeddings"], ["mean"], axes=[0, 1, 2]),
            _node("Sub", ["image_embeddings", "mean"], ["brighter"]),
            _node("Unsqueeze", ["brighter"], ["masks"], axes=[0]),
            _node("Identity", ["point_coords"], ["scores"]),
            _node("Identity", ["mask_input"], ["small"]),
        ],
        inputs={
            "image_embeddings": 3,
            "point_coords": 3,
            "point_labels": 2,
            "mask_input": 4,
            "has_mask_input": 1,
            "orig_im_size": 1,
        },
        outputs={"masks": 4, "scores": 3, "small": 4},
    )
    (folder / "sam_vit_b_01ec64.encoder.onnx").write_bytes(encoder)
    (folder / "sam_vit_b_01ec64.decoder.onnx").write_bytes(decoder)


def _model(nodes: Sequence[bytes], *, inputs: dict[str, int], outputs: dict[str, int]) -> bytes:
    values = [_bytes(11, _value(*each)) for each in inputs.items()] + [
        _bytes(12, _value(*each)) for each in outputs.items()
    ]
    graph = b"".join([*(_bytes(1, node) for node in nodes), _text(2, "graph"), *values])
    return _number(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, _number(2, _OPSET))


def _node(operator: str, inputs: list[str], outputs: list[str], **attributes: list[int]) -> bytes:
    named = [
        _bytes(5, _text(1, name) + b"".join(_number(8, value) for value in values) + _number(20, _INTS))
        for name, values in attributes.items()
    ]
    return b"".join([*(_text(1, name) for name in inputs), *(_text(2, name) for name in outputs),
                     _text(4, operator), *named])  # fmt: skip


def _value(name: str, rank: int) -> bytes:
    """A tensor of floats with `rank` dimensions of any length."""
    shape = b"".join(_bytes(1, _text(2, f"{name}_{index}")) for index in range(rank))
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, _FLOAT) + _bytes(2, shape)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, content: str) -> bytes:
    return _bytes(field, content.encode())


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
