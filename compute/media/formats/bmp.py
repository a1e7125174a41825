"""BMP: reads the colours stated by its header, from version 4 of the header on."""

import struct

__all__ = ["calibration", "embedded_profile", "is_bmp"]

_FILE_HEADER = 14
_V4_BYTES, _V5_BYTES = 108, 124
_SPACE, _ENDPOINTS, _GAMMA, _PROFILE = 56, 60, 96, 112
_CALIBRATED, _EMBEDDED = 0, 0x4D424544


def is_bmp(data: bytes) -> bool:
    return data[:2] == b"BM"


def embedded_profile(data: bytes) -> bytes | None:
    """The ICC profile within the file; a link to a profile in another file is ignored."""
    if _space(data, _V5_BYTES) != _EMBEDDED:
        return None
    offset, size = struct.unpack_from("<II", data, _FILE_HEADER + _PROFILE)
    profile = data[_FILE_HEADER + offset : _FILE_HEADER + offset + size]
    return profile if len(profile) == size else None


def calibration(data: bytes) -> tuple[list[tuple[float, float, float]], list[float]] | None:
    """The XYZ of red, green and blue, and the gamma of each."""
    if _space(data, _V4_BYTES) != _CALIBRATED:
        return None
    endpoints = [value / 2**30 for value in struct.unpack_from("<9i", data, _FILE_HEADER + _ENDPOINTS)]
    gammas = [value / 2**16 for value in struct.unpack_from("<3I", data, _FILE_HEADER + _GAMMA)]
    return list(zip(endpoints[::3], endpoints[1::3], endpoints[2::3], strict=True)), gammas


def _space(data: bytes, needed: int) -> int | None:
    if len(data) < _FILE_HEADER + needed:
        return None
    (size,) = struct.unpack_from("<I", data, _FILE_HEADER)
    if size < needed:
        return None
    found: int = struct.unpack_from("<I", data, _FILE_HEADER + _SPACE)[0]
    return found
