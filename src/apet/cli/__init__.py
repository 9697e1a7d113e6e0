"""The command line: each command reads its words, calls the library and shows what came back."""

from __future__ import annotations

import sys

from apet.errors import ApetError


def main() -> None:
    """Entry point. What a user did wrong is one line and exit code 2; Ctrl-C is 130."""
    from apet.cli.app import app

    try:
        code = app(standalone_mode=False)
    except ApetError as e:
        _fail(str(e))
    except KeyboardInterrupt:
        print("apet: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        sys.exit(0)
    except Exception as e:
        message = getattr(e, "format_message", None)  # typer's own errors; their class is not public
        if message is None:
            raise
        _fail(message())
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    print(f"apet: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
