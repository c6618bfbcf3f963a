"""The header of a GGUF file, without the package ``gguf``, whose import takes longer than a plan may."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))[0]


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "Q")).decode("utf-8", errors="replace")


def _value(file: BinaryIO, kind: int) -> Any:
    """Return a value; an array's length stands for it, as its elements (tokens, merges) are of no use here."""
    if kind == _TEXT:
        return _text(file)
    if kind != _ARRAY:
        return _number(file, _NUMBERS[kind])
    inner, count = _number(file, "I"), _number(file, "Q")
    if inner in _NUMBERS:
        file.seek(count * struct.calcsize(f"<{_NUMBERS[inner]}"), 1)
        return count
    for _ in range(count):
        _value(file, inner)
    return count


def read_header(path: Path) -> tuple[dict[str, Any], set[str]]:
    """Return the metadata (arrays by their length) and the names of the tensors.

    The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 2 and later.

    Raises:
        ValueError: the file is no GGUF, or is cut off.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ValueError(f"{path.name} is no GGUF file")
            _, tensors, count = (_number(file, form) for form in "IQQ")
            metadata = {}
            for _ in range(count):
                key = _text(file)
                metadata[key] = _value(file, _number(file, "I"))
            names = set()
            for _ in range(tensors):
                names.add(_text(file))
                file.seek(8 * _number(file, "I") + 12, 1)
            return metadata, names
    except (struct.error, KeyError) as error:
        raise ValueError(f"{path.name} is cut off, or no GGUF file of a known version") from error
