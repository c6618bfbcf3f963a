"""The pipeline's steps: one module each, with ``run(ctx)``. None imports a later one."""

VERSIONS: dict[str, int] = {
    "materials": 3,
    "annotate": 2,
    "split": 3,
    "general": 2,
    "pairs": 3,
    "train": 3,
    "generate": 2,
    "evaluate": 1,
    "compare": 1,
    "report": 3,
}
"""Each step's code version. Raise it when a change of code changes what the step makes."""
