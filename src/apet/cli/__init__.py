"""The command line: each command reads its words, calls the library and prints what came back."""

from __future__ import annotations

import logging
import os
import sys

from apet.errors import ApetError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main() -> None:
    """Run the command line of this process.

    The exit code is 2 after a user's mistake, which is one line on the standard error, 1 after a fault of ours, 130
    after Ctrl-C. ``APET_TRACEBACK=1`` shows where a fault of ours lies.
    """
    from apet.cli.app import app
    from apet.cli.guests import take_imports
    from apet.cli.stopping import stop_at_sigterm, stopped_message

    # torchao tells of kernels that it cannot load, and torch of how torchao registers types, to whoever imports
    # transformers beside it: neither is for the user of a command.
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    stop_at_sigterm()
    try:
        code = app(args=take_imports(sys.argv[1:]), prog_name="apet", standalone_mode=False)
        if code == INTERRUPTED:  # typer answers Ctrl-C with this code, and without a word
            raise KeyboardInterrupt
    except ApetError as e:
        _fail(str(e))
    except KeyboardInterrupt:
        print(f"apet: {stopped_message()}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()  # else the interpreter complains about the pipe when it exits
        sys.exit(0)
    except Exception as e:
        format_message = getattr(e, "format_message", None)  # typer's own errors; their class is not public
        if format_message is not None:
            _fail(format_message())
        if type(e).__name__ == "OutOfMemoryError":  # torch's, by name: torch may not be imported
            _fail("the device's memory is full; give a smaller batch_size, or gradient_checkpointing=true")
        if os.environ.get("APET_TRACEBACK"):
            raise
        first_line = (str(e).strip().splitlines() or [""])[0]
        print(
            f"apet: {type(e).__name__}: {first_line} (a fault of apet's; APET_TRACEBACK=1 shows where)", file=sys.stderr
        )
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    from apet.cli.defaults import with_package_hint

    print(f"apet: {with_package_hint(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(2)
