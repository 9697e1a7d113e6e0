"""The command line: each command reads its words, calls the library and shows what came back."""

from __future__ import annotations

import os
import sys

from apet.errors import ApetError

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main() -> None:
    """Entry point. What a user did wrong is one line and exit code 2; a fault of ours is 1; Ctrl-C is 130."""
    from apet.cli.app import app

    try:
        code = app(standalone_mode=False)
        if code == STOPPED:  # typer answers Ctrl-C with this code, and without a word
            raise KeyboardInterrupt
    except ApetError as e:
        _fail(str(e))
    except KeyboardInterrupt:
        print("apet: stopped", file=sys.stderr)
        sys.exit(STOPPED)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        sys.exit(0)
    except Exception as e:
        message = getattr(e, "format_message", None)  # typer's own errors; their class is not public
        if message is not None:
            _fail(message())
        if type(e).__name__ == "OutOfMemoryError":
            _fail("the device's memory is full; give a smaller batch_size, or gradient_checkpointing=true")
        if os.environ.get("APET_TRACEBACK"):
            raise
        first = (str(e).strip().splitlines() or [""])[0]
        print(f"apet: {type(e).__name__}: {first} (a fault of apet's; APET_TRACEBACK=1 shows where)", file=sys.stderr)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    print(f"apet: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
