"""The command line: each command reads its words, calls the library and prints what came back."""

from __future__ import annotations

import errno
import gc
import io
import logging
import os
import sys

from apet.errors import MAX_MESSAGE, ApetError, shortened

DONE, OURS, USERS, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141
"""Exit codes: done, a fault of ours, a user's mistake; after Ctrl-C and after a closed pipe as shells have them."""


def main() -> None:
    """Run the command line of this process.

    The exit code is 2 after a user's mistake, which is one line on the standard error, 1 after a fault of ours, 130
    after Ctrl-C or SIGTERM, 141 where the reader of the output has gone. ``APET_TRACEBACK=1`` shows where a fault of
    ours lies.
    """
    from apet.cli.app import app
    from apet.cli.completion import answer_completion
    from apet.cli.guests import take_imports
    from apet.cli.stopping import stop_at_sigterm, stopped_message

    # torchao tells of kernels that it cannot load, and torch of how torchao registers types, to whoever imports
    # transformers beside it: neither is for the user of a command.
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Importing torch and transformers makes a million objects and no garbage, which Python would look for every 700.
    gc.set_threshold(50_000, 20, 20)
    _open_console()
    stop_at_sigterm()
    try:
        answer = answer_completion(sys.argv[1:])
        if answer is not None:
            print(answer, flush=True)
            _leave(DONE)
        code = app(args=take_imports(sys.argv[1:]) or ["--help"], prog_name="apet", standalone_mode=False)
        sys.stdout.flush()  # here, where a reader that has gone is still an error that can be caught
        if code == INTERRUPTED:  # typer answers Ctrl-C with this code, and without a word
            raise KeyboardInterrupt
    except ApetError as e:
        _fail(str(e))
    except KeyboardInterrupt:
        print(f"apet: {stopped_message()}", file=sys.stderr)
        _leave(INTERRUPTED)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        _leave(PIPE_CLOSED)
    except SystemExit as e:  # typer's own answer to a closed pipe: it wraps the streams and leaves with 1
        left_with = e.code if isinstance(e.code, int) else OURS
        _leave(PIPE_CLOSED if isinstance(e.__context__, BrokenPipeError) else left_with)
    except MemoryError:
        _fail("the memory is full; give smaller data, or a smaller batch_size")
    except Exception as e:
        format_message = getattr(e, "format_message", None)  # typer's own errors; their class is not public
        if type(e).__name__ == "NoArgsIsHelpError":  # a bare group of commands
            print(getattr(e, "ctx").get_help())
            _leave(DONE)
        if format_message is not None:
            # Whoever typed it does not care whose error it was.
            from apet.cli.mistyped import option_hint

            hint = option_hint(e, sys.argv[1:])
            _fail(format_message().replace("Value error, ", "") + hint)
        if type(e).__name__ == "OutOfMemoryError":  # torch's, by name: torch may not be imported
            _fail("the device's memory is full; give a smaller batch_size, or gradient_checkpointing=true")
        if isinstance(e, OSError) and e.errno in _OF_THE_SYSTEM:
            _fail(f"{e.strerror}{f': {e.filename!r}' if e.filename else ' (writing the output)'}")
        if os.environ.get("APET_TRACEBACK"):
            raise
        first_line = (str(e).strip().splitlines() or [""])[0]
        told = shortened(f"{type(e).__name__}: {first_line}", MAX_MESSAGE - 80)
        print(f"apet: {told} (a fault of apet's; APET_TRACEBACK=1 shows where)", file=sys.stderr)
        _leave(OURS)
    _leave(code if isinstance(code, int) else DONE)


_OF_THE_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP}
"""What the system refuses and the user can mend, wherever it comes up."""


def _open_console() -> None:
    """Make the standard streams such that no letter and no closed one can end a command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the command
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, it is open until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a letter that the terminal's encoding lacks is spelled out


def _leave(code: int) -> None:
    """End the process with a code, whatever has become of its output."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            # The interpreter would flush again when it exits, fail again and change the code.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = code or PIPE_CLOSED
    sys.exit(code)


def _fail(message: str) -> None:
    from apet.cli.defaults import with_package_hint

    line = shortened(with_package_hint(" ".join(message.split())), MAX_MESSAGE)
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    print(f"apet: {printable}", file=sys.stderr)
    _leave(USERS)
