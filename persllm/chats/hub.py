"""Rows of a data set of the Hugging Face hub, streamed: nothing is kept on disk, and reading may end early.

``datasets`` keeps what it read of a Parquet file in memory: ``general.scan`` bounds that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from persllm.errors import UserError


def _refuse(source: str, error: Exception) -> UserError:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        why = "HF_HUB_OFFLINE is set, so the hub is not asked; unset it, or name a file or folder on this machine"
        return UserError(f"general data {source}: {why}")
    told = (str(error).strip() or type(error).__name__).splitlines()[0]
    return UserError(f"general data {source}: not readable from the hub ({told}); name a file or folder instead")


def commit(source: str, revision: str | None) -> str:
    """Return the commit that a revision of a data set (null: its newest) stands for now.

    Raises:
        UserError: the hub cannot be asked, or does not have it.
    """
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(source, revision=revision).sha)
    except Exception as error:
        raise _refuse(source, error) from error


def rows(source: str, revision: str, split: str) -> Iterator[tuple[str, Any]]:
    """Yield ``("ORG/NAME:row", row)`` for each row of a split.

    Raises:
        UserError: it cannot be read.
    """
    import datasets

    try:
        for number, row in enumerate(datasets.load_dataset(source, split=split, revision=revision, streaming=True), 1):
            yield f"{source}:{number}", row
    except Exception as error:
        raise _refuse(source, error) from error
