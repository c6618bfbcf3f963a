"""Where steps run when not in this process: as jobs of a Slurm cluster, and as ranks of one training run."""

EXIT_INPUTS = 4
"""Exit code of a job whose step lacks an input: it waited for one that failed."""
EXIT_BUSY = 5
"""Exit code of a job whose step a living process of another kind holds."""
