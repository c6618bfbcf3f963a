"""Reads text files and collects what is wrong with them, so that all of it is told at once and in file order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from persllm import records
from persllm.errors import UserError, did_you_mean


class Problems:
    """What is wrong with some files: one sentence each, with file and line."""

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}
        self._told: list[tuple[int, int, str]] = []

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._told)

    def add(self, path: Path, line: int | None, text: str) -> None:
        """Note a problem.

        Args:
            path: the file; files are told in the order in which they are first named or read.
            line: its line, from 1; None for the whole file.
            text: what is wrong, what was expected, how to mend it.
        """
        where = f"{path}:{line}" if line else str(path)
        self._told.append((self._files.setdefault(path, len(self._files)), line or 0, f"{where}: {text}"))

    def sentences(self) -> list[str]:
        """Return all of them, in the order of files and lines."""
        return [text for _, _, text in sorted(self._told, key=lambda told: told[:2])]

    def check(self) -> None:
        """Raise one UserError with a line for each problem, if there is any."""
        if self._told:
            raise UserError("\n".join(self.sentences()))

    def text(self, path: Path, expected: str, may_be_empty: bool = False) -> str | None:
        """Return a file's text with line feeds as its line ends, or None where it cannot be read or holds nothing.

        Args:
            path: a UTF-8 file; a byte order mark is passed over.
            expected: what should be in it, for the sentence that says it is not there.
            may_be_empty: whether a file without any text is right too.
        """
        self._files.setdefault(path, len(self._files))
        if not path.is_file():
            beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            self.add(path, None, f"no such file; expected {expected}{did_you_mean(path.name, beside)}")
            return None
        data = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.add(path, data.count(b"\n", 0, error.start) + 1, f"not UTF-8 text ({error.reason}); save it as UTF-8")
            return None
        if not text.strip() and not may_be_empty:
            self.add(path, None, f"the file is empty; expected {expected}")
            return None
        return text

    def lines(self, path: Path, expected: str) -> list[tuple[int, str]] | None:
        """Return a file's lines that are not empty, each with its number and stripped, or None as ``text`` does."""
        return self._lines(self.text(path, expected))

    @staticmethod
    def _lines(text: str | None) -> list[tuple[int, str]] | None:
        if text is None:
            return None
        return [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]

    def rows(self, path: Path, expected: str) -> list[tuple[int, Any]] | None:
        """Return the values of a JSON Lines file, each with its line number, or None where it cannot be read."""
        lines = self._lines(self.text(path, expected, may_be_empty=True))
        if lines is None:
            return None
        found = []
        for number, line in lines:
            try:
                found.append((number, records.decode(line)))
            except UserError as error:
                self.add(path, number, str(error))
        return found
