"""The pipeline's steps: one module each, with ``run(ctx)``. None imports a later one."""

VERSIONS: dict[str, int] = {
    "materials": 3,
    "annotate": 2,
    "split": 3,
    "general": 2,
    "pairs": 3,
    "train": 3,
    "steer": 1,
    "generate": 3,
    "evaluate": 3,
    "probe": 3,
    "converse": 1,
    "score": 1,
    "judge": 2,
    "compare": 3,
    "report": 4,
}
"""Each step's code version. Raise it when a change of code changes what the step makes."""
