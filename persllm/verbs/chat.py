"""Verb chat: talk to a personified model in the terminal, streaming."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from persllm.errors import UserError, did_you_mean

EXAMPLES = """\
  persllm chat persona=scrooge stage=late method=persllm
  persllm chat persona=ottoline stage=early method=prompt_profile
  persllm chat persona=scrooge stage=early --ask "What of Christmas?\""""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this verb's options."""
    parser.add_argument("--ask", metavar="TEXT", help="ask one question and leave")
    parser.add_argument("--analysis", action="store_true", help="show the analysis that comes before the response")


def _stage(overrides: list[str]) -> tuple[str | None, list[str]]:
    """Take ``stage=NAME`` out of the overrides: it belongs to this verb, not to a study."""
    chosen = [text.removeprefix("stage=") for text in overrides if text.startswith("stage=")]
    return (chosen[-1] if chosen else None), [text for text in overrides if not text.startswith("stage=")]


def main(args: argparse.Namespace) -> int:
    """Load the arm and answer until the input ends."""
    from persllm import plan
    from persllm.compose import resolve

    stage, overrides = _stage(args.overrides)
    for group, default in (("method", "persllm"), ("persona", "scrooge")):
        if not any(text.startswith(f"{group}=") for text in overrides):
            overrides.append(f"{group}={default}")
    resolved = resolve(overrides)
    if len(resolved.cells) > 1:
        raise UserError("chat talks to one arm of one persona; give one method, one persona and one seed")
    planned = plan.build(resolved).cells[0]
    outputs = Path(resolved.config.outputs)
    require_ready(planned.generate, outputs, overrides)
    if sys.stdin.isatty() and not args.ask:
        print("loading ...", end="\r", file=sys.stderr)
    talk = Talk(planned.generate, outputs, stage)
    if args.ask:
        talk.answer(args.ask, args.analysis)
        return 0
    print(f"You are talking to {talk.card.name}, {talk.label}. Each question stands alone; an empty line ends.")
    while True:
        try:
            question = input("\nyou: ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        if not question:
            return 0
        print(f"{talk.card.name}: ", end="", flush=True)
        talk.answer(question, args.analysis)


def require_ready(step: Any, outputs: Path, overrides: list[str]) -> None:
    """Prepare what is cheap (materials, split); refuse where training has not been run."""
    from persllm.execute import Outcome, run_steps

    trained = [needed for role, needed in step.inputs.items() if role.startswith(("train", "steer"))]
    if not all(needed.directory(outputs).is_done() for needed in trained):
        raise UserError(
            f"this arm is not trained yet; run: persllm run {' '.join(overrides)} "
            "(trained in a study of several personas? name the others, as that study's last line does: "
            "pairs.others=[NAME])"
        )
    cheap = [step.inputs["materials"], step.inputs["split"].inputs["annotate"], step.inputs["split"]]
    outcome = Outcome()
    run_steps(cheap, outputs, {"mode": "disabled"}, lambda *_: None, outcome)
    if outcome.failed:
        failure = outcome.failed[0].directory(outputs).failure() or {}
        raise UserError(str(failure.get("message", "a step failed")))


class Talk:
    """One arm at one stage."""

    def __init__(self, step: Any, outputs: Path, stage: str | None) -> None:
        from persllm.execute import context_for
        from persllm.speaking import Speaker
        from persllm.steps.generate import load_arm, prompt_source

        ctx = context_for(step, outputs, {"mode": "disabled"})
        source = prompt_source(ctx)
        self.card = source.card
        stages = list(self.card.stages)
        if stage is not None and stage not in stages:
            raise UserError(f"stage={stage}: {self.card.name} has {', '.join(stages)}{did_you_mean(stage, stages)}")
        self.stage = stage or stages[-1]
        self.label = self.card.stages[self.stage].label
        self.speaker = Speaker(*load_arm(ctx, self.stage), source, step.config)

    def answer(self, question: str, show_analysis: bool) -> None:
        """Print the reply as it is made."""
        import torch
        from transformers import TextStreamer

        from persllm.answer import RESPONSE
        from persllm.speaking import Asked

        speaker = self.speaker

        class Shown(TextStreamer):
            text, told = "", not speaker.analyses or show_analysis

            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                self.text += text
                if not self.told:
                    _, marker, tail = self.text.partition(RESPONSE.strip())
                    if not marker:
                        return
                    self.told, text = True, tail.lstrip()
                print(text, end="", flush=True)

        shown = Shown(speaker.tokenizer, skip_prompt=True, skip_special_tokens=True)
        (prompt,) = speaker.compose([Asked(self.stage, question, [])], speaker.config["seed"])
        ids = torch.tensor([prompt.ids])
        decoding = speaker.config["generate"]
        warm = decoding["temperature"] > 0
        with torch.inference_mode():
            speaker.model.generate(
                input_ids=ids.to(speaker.model.device),
                attention_mask=torch.ones_like(ids).to(speaker.model.device),
                max_new_tokens=2 * decoding["max_new_tokens"],
                pad_token_id=speaker.tokenizer.pad_token_id,
                do_sample=warm,
                temperature=decoding["temperature"] if warm else None,
                top_p=decoding["top_p"] if warm else None,
                top_k=0 if warm else None,
                streamer=shown,
            )
        print("" if shown.told else "(the reply broke off in its analysis; try --analysis)")
