"""Speed against the usual tools, as ratios measured side by side in one process: ``python -m benchmarks``."""
