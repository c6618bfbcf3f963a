"""One kind of progress bar for the steps that do not train."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def bar(total: int, label: str) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal (nothing elsewhere); yields a function that advances it."""
    with tqdm(total=total, desc=f"  {label}", leave=False, ncols=78, disable=not sys.stderr.isatty()) as shown:
        yield lambda count: (shown.update(count), None)[1]
