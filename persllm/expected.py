"""How long a step should take, from what finished steps like it took here. Imports no torch."""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from persllm.identity import canonical
from persllm.store import read_json

ALIKE_AT_ANY_SIZE = ("materials", "annotate", "split", "pairs", "steer", "probe", "score", "compare", "report")
"""Steps of which one takes about as long as another, whatever it reads."""

Kind = tuple[Any, ...]


def _kind(name: str, config: dict[str, Any], local: dict[str, Any]) -> Kind:
    """Return what two steps must share to take equally long for the same work."""
    model = config.get("model") or {}
    strategy = local.get("strategy") or {}
    return (
        name,
        config.get("objective"),
        config.get("metric"),
        config.get("limit"),
        canonical([model.get("identity"), model.get("dtype")]),
        *(strategy.get(key) for key in ("kind", "devices", "nodes")),
    )


def _work(name: str, local: dict[str, Any]) -> float | None:
    return 1.0 if name in ALIKE_AT_ANY_SIZE else local.get("work")


class Times:
    """What finished steps took, read once for each step name."""

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs
        self.rates: dict[Kind, list[float]] = defaultdict(list)
        self.read: set[str] = set()

    def _read(self, name: str) -> None:
        """Note the seconds per unit of work of every finished step of a name, where it tells its work."""
        self.read.add(name)
        for done in (self.outputs / name).glob("*/DONE"):
            run, meaning = read_json(done.with_name("run.json")), read_json(done.with_name("config.json"))
            if not isinstance(run, dict) or not isinstance(meaning, dict) or "seconds" not in run:
                continue
            local = meaning.get("local") or {}
            work = _work(name, local)
            if work:
                self.rates[_kind(name, meaning.get("config") or {}, local)].append(float(run["seconds"]) / work)

    def expected(self, name: str, config: dict[str, Any], local: dict[str, Any]) -> float | None:
        """Return the median over finished steps of the same name, objective, model and ranks, for this step's work.

        Returns:
            Seconds; None where no such step has finished here, or the step's work is not known.
        """
        if name not in self.read:
            self._read(name)
        rates, work = self.rates.get(_kind(name, config, local)), _work(name, local)
        return statistics.median(rates) * work if rates and work else None
