"""An ONNX file with YuNet's inputs and outputs that takes every bright square of 32 pixels for a face.

It is written by hand (ONNX is a Protocol Buffers message), so that OpenCV's own detector really loads and runs a file.
"""

from pathlib import Path

import numpy as np

STRIDES = (8, 16, 32)

_FLOAT, _INTS, _OPSET = 1, 7, 11


def write_tiny_yunet(path: Path) -> Path:
    """A square's score is its mean brightness; its box is as large, around its upper left corner; no landmarks."""
    nodes, weights, outputs = b"", b"", b""
    for stride in STRIDES:
        seen = 1.0 if stride == 32 else 0.0
        for name, channels in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            kernel = np.zeros((channels, 3, stride, stride), np.float32)
            if channels == 1:
                kernel[:] = seen / (3 * stride * stride * 255)
            label = f"{name}_{stride}"
            weights += _field(5, _tensor(f"{label}.w", kernel)) + _field(
                5, _tensor(f"{label}.b", np.zeros(channels, np.float32))
            )
            nodes += _field(1, _convolution(label, stride))
            outputs += _field(12, _value(label, [1, channels, 320 // stride, 320 // stride]))
    graph = nodes + _field(2, b"yunet") + weights + _field(11, _value("input", [1, 3, 320, 320])) + outputs
    path.write_bytes(_number(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _number(2, _OPSET)))
    return path


def _convolution(label: str, stride: int) -> bytes:
    names = [_field(1, name.encode()) for name in ("input", f"{label}.w", f"{label}.b")]
    attributes = [
        _field(5, _field(1, name) + b"".join(_number(8, stride) for _ in range(2)) + _number(20, _INTS))
        for name in (b"kernel_shape", b"strides")
    ]
    return b"".join([*names, _field(2, label.encode()), _field(3, label.encode()), _field(4, b"Conv"), *attributes])


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_number(1, length) for length in values.shape)
    return dims + _number(2, _FLOAT) + _field(8, name.encode()) + _field(9, values.tobytes())


def _value(name: str, shape: list[int]) -> bytes:
    dims = b"".join(_field(1, _number(1, length)) for length in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, _FLOAT) + _field(2, dims)))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
