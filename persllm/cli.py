"""The command line: one verb per intention. Imports no torch."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import shutil
import sys
from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

from persllm import __version__
from persllm.errors import UserError, did_you_mean
from persllm.groups import GROUPS_HELP, describe

VERBS = {
    "annotate": "make a persona's items from its texts; review them by hand",
    "plan": "say what would run and why; touches nothing",
    "run": "run a study; the same command continues, a finished one is a no-op",
    "submit": "send a study's steps to Slurm; returns at once",
    "status": "show every step of a study: done, running, failed",
    "retry": "run the failed steps and what waited for them, nothing else",
    "compare": "print the table and the contrasts of a study",
    "report": "render the page of a study from what is done",
    "chat": "talk to a personified model in the terminal",
    "converse": "let personas, or stages of one, talk to each other",
    "data": "check packs and data sets: faults, duplicates, leakage, voice",
    "doctor": "check versions, the embedded model, memory and folders",
}

USAGE = """Personify a language model by tuning or by prompting, and prove which is better.

usage: persllm VERB [key=value ...] [--json] [--help]

verbs:
{verbs}

first steps:
  persllm doctor          is everything here?
  persllm plan            what would run, and for how long
  persllm run             run it; the same command continues after any stop
  persllm compare         the table
  persllm VERB --help     what a verb does, with examples and every option
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def _parser(verb: str, module: ModuleType, width: int) -> argparse.ArgumentParser:
    text = VERBS[verb]
    parser = _Parser(
        prog=f"persllm {verb}",
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"examples:\n{module.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.arguments(parser)
    if getattr(module, "OVERRIDES", True):
        parser.add_argument(
            "overrides",
            nargs="*",
            metavar="key=value",
            help="choose an option (method=sft), set a value (pairs.rank=8), sweep (seed=0,1 or range(0,3))",
        )
        told = describe(width, getattr(module, "GROUPS", tuple(GROUPS_HELP)))
        head = "config groups and their options, as GROUP=OPTION (* is the default)"
        parser.epilog = f"{parser.epilog}\n\n{head}:\n{told}"
    return parser


def _usage() -> str:
    return USAGE.format(verbs="\n".join(f"  {verb:<9} {text}" for verb, text in VERBS.items()))


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage(), end="", file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"persllm {__version__}")
        return 0
    verb = argv[0]
    if verb not in VERBS:
        raise UserError(f"{verb}: no such verb{did_you_mean(verb, VERBS)} (expected one of {', '.join(VERBS)})")
    module = importlib.import_module(f"persllm.verbs.{verb}")
    # Overrides and flags may stand in any order, which argparse only allows when told so.
    args = _parser(verb, module, shutil.get_terminal_size().columns).parse_intermixed_args(argv[1:])
    return module.main(args)


def main(argv: list[str] | None = None) -> int:
    """Run a verb.

    Args:
        argv: the words after ``persllm``; None takes the process's own.

    Returns:
        The exit code: 0 done, 1 some steps failed, 2 bad input, 130 stopped.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return guard(lambda: _dispatch(sys.argv[1:] if argv is None else argv))


def guard(work: Callable[[], int]) -> int:
    """Do the work and return its exit code; tell what the user can mend in words, with no traceback."""
    try:
        return work()
    except UserError as error:
        for line in str(error).split("\n"):
            print(f"error: {line}", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader (head, less) left; what is still buffered has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        place = error.filename or "outputs"
        print(f"error: {place}: {error.strerror}; mend it and run the same command again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
