"""The command line: one verb per intention. Imports no torch."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from persllm.errors import UserError

VERBS = {
    "plan": "say what would run and why; touches nothing",
    "run": "run a study; the same command continues, a finished one is a no-op",
    "status": "show every step of a study: done, running, failed",
    "retry": "run the failed steps and what waited for them, nothing else",
    "compare": "print the table and the contrasts of a study",
    "report": "render the page of a study from what is done",
    "chat": "talk to a personified model in the terminal",
    "doctor": "check versions, the embedded model, memory and folders",
}


def _group_lines() -> str:
    from persllm.groups import GROUPS_HELP, option_names

    lines = []
    for group, text in GROUPS_HELP.items():
        lines.append(f"  {group:<9} {text}")
        lines.append(f"  {'':<9} {'='.join((group, '|'.join(option_names(group))))}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="persllm",
        description="Personify a language model by tuning or by prompting, and prove which works better.",
        epilog="Each verb has --help. First steps: persllm plan; persllm run; persllm chat persona=scrooge stage=late",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for verb, text in VERBS.items():
        module = importlib.import_module(f"persllm.verbs.{verb}")
        sub = verbs.add_parser(
            verb,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if getattr(module, "OVERRIDES", True):
            sub.add_argument(
                "overrides",
                nargs="*",
                metavar="KEY=VALUE",
                help="Hydra overrides; a,b and range(a,b) sweep (see the groups below)",
            )
        module.arguments(sub)
        sub.epilog = f"examples:\n{module.EXAMPLES}\n\ngroups and options:\n"
    return parser


class _Help(Exception):
    pass


def main(argv: list[str] | None = None) -> int:
    """Run a verb; return the exit code (0 done, 1 some steps failed, 2 bad input, 130 stopped)."""
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser()
    if any(word in ("-h", "--help") for word in argv) and argv[0] in VERBS:
        sub = parser._subparsers._group_actions[0].choices[argv[0]]  # type: ignore[union-attr]
        sub.epilog += _group_lines()
    args = parser.parse_args(argv)
    if args.verb is None:
        parser.print_help()
        return 2
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        return importlib.import_module(f"persllm.verbs.{args.verb}").main(args)
    except UserError as error:
        lines = str(error).split("\n")
        for line in lines:
            print(f"error: {line}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main())
