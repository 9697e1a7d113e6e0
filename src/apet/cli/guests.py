"""What guests bring to the command line: files and modules after ``--import``, and groups of commands.

A guest is code outside this package that registers something by name (see `apet.registry`).
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from typer.core import TyperGroup

from apet.errors import ApetError

if TYPE_CHECKING:
    from typer._click import Command, Context

COMMAND_GROUP = "apet.commands"
"""Entry-point group: name of a command group -> its `typer.Typer`."""

_imports: list[str] = []


def take_imports(words: Sequence[str]) -> list[str]:
    """Import the guests that a command line names, and take them out of it.

    They are imported before the command is parsed: what a command accepts (methods, tasks, groups of commands) depends
    on what is registered.

    Args:
        words: the command line, without the program's name. ``--import FILE`` and ``--import=FILE`` may stand anywhere
            before a ``--``, any number of times.

    Returns:
        The other words, in their order.

    Raises:
        ApetError: ``--import`` without a value, or a guest that does not load.
    """
    from apet.registry import import_guest

    _imports.clear()  # one process may run several command lines, as tests do
    rest: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if word == "--":
            rest += [word, *remaining]
        elif word == "--import" or word.startswith("--import="):
            spec = word.removeprefix("--import").removeprefix("=") or next(remaining, "")
            if not spec or spec.startswith("-"):
                raise ApetError("--import needs a value: give a Python or YAML file, or an importable module")
            _imports.append(_absolute(spec))
        else:
            rest.append(word)
    for spec in dict.fromkeys(_imports):
        import_guest(spec)
    return rest


def _absolute(spec: str) -> str:
    """A file by its whole path: workers, and whoever uses a run later, stand in other folders. Modules as they are."""
    path = Path(spec).expanduser()
    return str(path.absolute()) if path.suffix in (".py", ".yaml", ".yml") and path.is_file() else spec


def command_line_imports() -> list[str]:
    """Guests that this command line named, in their order, each once. For the settings of its runs."""
    return list(dict.fromkeys(_imports))


class RootGroup(TyperGroup):
    """The root command; groups of commands that installed packages bring are looked up when they are asked for.

    Looking through the metadata of all installed packages takes longer than parsing most command lines, so it is done
    only for a name that is not ours, and for the help.
    """

    def list_commands(self, ctx: Context) -> list[str]:
        """Names of all commands: ours in their order, then guests'."""
        names = super().list_commands(ctx)
        return names + [name for name in sorted(_command_groups()) if name not in names]

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """The command of a name, ours before a guest's; None if there is none.

        Raises:
            ApetError: a guest's group of commands that does not load.
        """
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            return command
        point = _command_groups().get(cmd_name)
        if point is None:
            return None
        loaded = _load_commands(point)
        self.commands[cmd_name] = loaded
        return loaded


def _command_groups() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=COMMAND_GROUP)}


def _load_commands(point: EntryPoint) -> Command:
    from typer.main import get_group

    try:
        command = get_group(point.load())
    except Exception as e:  # an installed guest may fail in any way
        raise ApetError(
            f"entry point {point.name} of {COMMAND_GROUP} does not load ({type(e).__name__}: {e});"
            " mend or uninstall its package"
        ) from e
    command.name = point.name
    return command
