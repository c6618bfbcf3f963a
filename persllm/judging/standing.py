"""Whether a judge's numbers may be believed in a study: what all its certificates say together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from persllm.errors import UserError
from persllm.judging import METRICS
from persllm.store import read_json


@dataclass(frozen=True)
class Standing:
    """A judge in a study."""

    judge: str
    """Who, as verdicts name it; empty where no judge step is done."""
    held: bool
    """Whether every judge step is done and holds its certificate: only then may its metrics head a table."""
    told: str
    """For the metric's column, in words."""

    def require(self, primary: str) -> None:
        """Raise where a study's primary metric is a judge's that holds no certificate.

        Raises:
            UserError: with the reason, and what to do.
        """
        if primary in METRICS and not self.held:
            raise UserError(
                f"study.primary={primary}: {self.told}; choose a metric that needs no judge, such as "
                "study.primary=knowledge_support, or a judge that earns its certificate (judge.model)"
            )


def standing(folders: list[Path], unjudged: list[str]) -> Standing:
    """Return a judge's standing.

    Args:
        folders: artifacts of the judge steps that are done.
        unjudged: ids of those that are not.
    """
    found = [read_json(folder / "certificate.json") for folder in folders]
    who = ", ".join(dict.fromkeys(one["judge"] for one in found))
    refused = [(folder.parent.name, one["why"]) for folder, one in zip(folders, found, strict=True) if not one["held"]]
    if unjudged or not found:
        missing = f"no certificate: {', '.join(unjudged) or 'the judge'} is not done"
        return Standing(who, False, missing)
    if refused:
        name, why = refused[0]
        more = f"; {len(refused)} of {len(found)} judge steps hold none" if len(found) > 1 else ""
        return Standing(who, False, f"no certificate: {who} is refused it in {name} ({why}){more}")
    return Standing(who, True, f"certificate held by {who} in {len(found)} of {len(found)} judge steps")
