"""Rows of local files of instruction data, one by one, in memory that does not grow with the file.

They are read here and not through ``datasets``: it does not say in which line a file is broken, and its memory grows
with a JSON array or a Parquet file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from persllm import records
from persllm.chats.turns import COLUMNS, EXPECTED
from persllm.errors import UserError
from persllm.identity import canonical, file_sha256

SUFFIXES = (".jsonl", ".json", ".parquet")
CHUNK = 1 << 20
"""Characters of a JSON array, or bytes of a Parquet column, that are read at once."""
LONGEST = 1 << 26
"""Characters that one element of a JSON array may have."""
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w.-]+)?")
BLANK = re.compile(r"[ \t\r\n]*")
DECODER = json.JSONDecoder()


def local(key: str, source: str) -> Path | None:
    """Return the file or folder that a source names, or None for a hub id.

    Args:
        key: the dotted key that it comes from.
        source: what stands there.

    Raises:
        UserError: it names neither, a file of another kind, or a folder without data files.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if not data_files(path):
            raise UserError(f"{key}={source}: no {', '.join(SUFFIXES)} file in this folder")
        return path
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{key}={source}: expected a {', '.join(SUFFIXES)} file, or a folder of such files")
        return path
    named = source.startswith((".", "/", "~")) or path.suffix.lower() in SUFFIXES
    if named or not HUB_ID.fullmatch(source):
        raise UserError(
            f"{key}={source}: no such file or folder; expected self, a {', '.join(SUFFIXES)} file, a folder of such "
            "files, or a hub id like ORG/NAME or ORG/NAME@COMMIT"
        )
    return None


def data_files(path: Path) -> list[Path]:
    """Return a file itself, or a folder's files of one kind in the order of their names.

    Where a folder holds several kinds, Parquet goes before JSON Lines and JSON: JSON files often describe the others.
    """
    if path.is_file():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    kinds = ([file for file in files if file.suffix.lower() == kind] for kind in (".parquet", ".jsonl", ".json"))
    return next((found for found in kinds if found), [])


def content(path: Path) -> str:
    """Return the sha256 of a file, or of a folder's data files and their names."""
    if path.is_file():
        return file_sha256(path)
    named = {file.relative_to(path).as_posix(): file_sha256(file) for file in data_files(path)}
    return hashlib.sha256(canonical(named)).hexdigest()


def rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield ``("file:line", row)`` for each row of a file or of a folder's files; Parquet has no lines, but rows.

    Raises:
        UserError: a file is empty, broken (which names the line), or a Parquet file without a column that we know.
    """
    for file in data_files(path):
        if file.stat().st_size == 0:
            raise UserError(f"{file}: the file is empty; expected rows with {EXPECTED}")
        read = _parquet if file.suffix.lower() == ".parquet" else _array if _opens_with_bracket(file) else _lines
        for number, row in read(file):
            yield f"{file}:{number}", row


def _opens_with_bracket(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if line.strip():
                    yield number, records.decode(line)
            except UnicodeDecodeError as error:
                raise UserError(f"{path}:{number}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
            except UserError as error:
                raise UserError(f"{path}:{number}: {error}") from error


def _array(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the elements of a JSON array with the lines they begin in, holding one chunk of the file at a time."""
    with path.open(encoding="utf-8-sig") as file:
        try:
            yield from _elements(path, file)
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error


class _Stream:
    """The text of a file from a moving place on, of which one chunk or one element is held."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path, self.line = path, 1
        self._file, self._text, self._at = file, "", 0

    def _more(self) -> bool:
        """Read on; return whether there was anything left."""
        chunk = self._file.read(CHUNK)
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def _pass(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self._at = end

    def sign(self) -> str:
        """Return the next character that is no blank; at the end of the file there is none."""
        while True:
            blank = BLANK.match(self._text, self._at)
            assert blank is not None
            self._pass(blank.end())
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def take(self) -> str:
        """Return the next character that is no blank, and pass it."""
        found = self.sign()
        self._at += len(found)
        return found

    def value(self) -> Any:
        """Return the JSON value that begins here, and pass it."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                line = self.line + self._text.count("\n", self._at, error.pos)
                # Broken, or only not read to its end yet.
                if len(self._text) - self._at < LONGEST and self._more():
                    continue
                raise UserError(
                    f"{self.path}:{line}: not valid JSON ({error.msg}); mend this element of the list"
                ) from error
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{self.path}:{self.line}: {records.unreadable(error)}; mend this element of the list"
                ) from error
            # A number may go on in the next chunk.
            if end == len(self._text) and self._more():
                continue
            self._pass(end)
            return value


def _elements(path: Path, file: TextIO) -> Iterator[tuple[int, Any]]:
    stream = _Stream(path, file)
    after = stream.take()
    if stream.sign() == "]":
        after = stream.take()
    while after != "]":
        stream.sign()
        line = stream.line
        yield line, stream.value()
        after = stream.take()
        if after not in ("]", ","):
            raise UserError(
                f"{path}:{stream.line}: no comma after an element of the list, nor its end; expected the next element "
                "after one comma, or ]"
            )
    if stream.sign():
        raise UserError(
            f"{path}:{stream.line}: the list ends before this; expected one list in the file and nothing after it, or "
            "an object on each line"
        )


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        # Its defaults keep every row group that was read in memory.
        with ParquetFile(path, pre_buffer=False, buffer_size=CHUNK) as file:
            names = file.schema_arrow.names
            known = [name for name in names if name in COLUMNS]
            if not set(known) & set(COLUMNS[:3]):
                raise UserError(f"{path}: found the columns {', '.join(names)}; expected {EXPECTED}")
            number = 0
            for batch in file.iter_batches(256, columns=known):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: not readable as Parquet ({str(error).splitlines()[0]})") from error
