"""The entry point of ``nunet``: help without imports, and every error in one line with a hint.

The help of the root and the version are answered here from static text, before the framework is imported: that alone
would cost more CPU time than the whole answer may.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from dms.cli.commands import COMPLETE_VARIABLE, PROGRAM, root_help

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
GC_THRESHOLD = 50_000
"""Objects between two looks for garbage. Importing code makes hundreds of thousands, all of which stay: with the
interpreter's own 700, looking through them takes a quarter of the time that a command needs."""


def main() -> NoReturn:
    """Run the command line of this process and end it."""
    gc.set_threshold(GC_THRESHOLD)
    try:
        code = invoke(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILED
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    sys.exit(code)


def invoke(args: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    if not os.environ.get(COMPLETE_VARIABLE):
        if not args or tuple(args) in (("--help",), ("-h",)):
            print(root_help())
            return 0
        if tuple(args) == ("--version",):
            from dms import __version__

            print(f"{PROGRAM} {__version__}")
            return 0
        if tuple(args) == ("version",):
            from dms.cli.version import version

            version()
            return 0
    return _dispatch(args)


def _dispatch(args: Sequence[str]) -> int:
    from dms.cli.root import UsageError, root_command
    from dms.types.errors import DMSError

    try:
        done = root_command().main(list(args), prog_name=PROGRAM, standalone_mode=False)
        return done if isinstance(done, int) else 0
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except DMSError as exc:
        if _wants_debug(args):
            raise
        return _fail(exc.message, exc.hint, exc.exit_code)
    except UsageError as exc:
        return _on_usage_error(exc)
    except Exception as exc:
        if _wants_debug(args) or isinstance(exc, AssertionError):
            raise
        return _on_unexpected(exc)


def _on_usage_error(exc: object) -> int:
    from dms.cli.root import wording

    message, hint, code = wording(exc)
    if not message:  # the help of a group that was called without a command
        print(hint)
        return code
    return _fail(message, hint, code)


def _on_unexpected(exc: Exception) -> int:
    if type(exc).__name__ == "Abort":  # of the framework: the end of the input at a prompt
        return _fail("nothing more to read on the standard input", "answer the question, or give it as an option", 1)
    what = f"{type(exc).__name__}: {exc}".splitlines()[0]
    return _fail(f"internal error: {what}", f"the traceback comes with {PROGRAM} --debug …", EXIT_FAILED)


def _wants_debug(args: Sequence[str]) -> bool:
    return "--debug" in args


def _fail(message: str, hint: str, code: int) -> int:
    from dms.cli.output import clean

    _tell(f"Error: {clean(message)}")
    if hint:
        _tell(f"Hint: {clean(hint)}")
    return code


def _tell(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        return


if __name__ == "__main__":
    main()
