"""Registries: every kind of thing that is found by name, and the three ways in which a guest adds one.

A registry holds one kind of thing: methods, distributions, families, tasks, metrics, executors, suites, backbones. What
ships with the package registers itself by the same call as a guest's. Ways for guests:

- an installed package has an entry point of the registry's group, such as ``apet.metrics``;
- a user names a Python file, YAML file or module after ``--import``;
- a study's file names them under ``import``.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from apet.errors import ApetError, UnknownNameError

T = TypeVar("T")

GUEST_PACKAGES = {"microworld*": "apet-microworld", "quick": "apet-microworld"}
"""Patterns of known guests' names -> the package that brings them, for whoever meets a name before its package."""


class Registry(Generic[T]):
    """Named things of one kind, in the order in which they were registered.

    Args:
        kind: what one of them is called in messages, such as ``"method"``.
        group: entry-point group through which installed packages add some, such as ``"apet.methods"``.
        load_builtin: imports or reads what ships with this package; called once, before the first look-up.
        read_yaml: registers what a YAML text describes, where this kind can be written as one; called with the text and
            with the place it came from.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        load_builtin: Callable[[], object],
        read_yaml: Callable[[str, str], object] | None = None,
    ) -> None:
        self.kind, self.group = kind, group
        self._load_builtin, self._read_yaml = load_builtin, read_yaml
        self._entries: dict[str, T] = {}
        self._origins: dict[str, str] = {}
        self._loaded = False

    def register(self, name: str, entry: T, origin: str) -> T:
        """Add one entry.

        Args:
            name: by which it is found.
            entry: what is found.
            origin: module or file that it comes from. The same origin may register a name again (a file that is
                imported twice); another one may not.

        Returns:
            The entry.

        Raises:
            ApetError: another origin holds the name.
        """
        holder = self._origins.get(name)
        if holder is not None and holder != origin:
            raise ApetError(
                f"two {self.kind} entries are called {name!r}: one from {holder}, one from {origin}; rename one"
            )
        self._entries[name] = entry
        self._origins[name] = origin
        return entry

    def get(self, name: str) -> T:
        """Look up the entry of a name.

        Returns:
            The entry.

        Raises:
            UnknownNameError: no such entry; the nearest names are given, and how to add one.
        """
        entries = self.entries()
        if name not in entries:
            raise self.unknown(name)
        return entries[name]

    def unknown(self, name: str, also: Iterable[str] = ()) -> UnknownNameError:
        """The error for a name that is not registered: the nearest names, how to add one, which package brings it.

        Args:
            name: that came.
            also: names beside the entries' own that would have been accepted.

        Returns:
            The error, to be raised.
        """
        remedy = (
            f"to add one, give its file or module with --import, or install a package with entry points in {self.group}"
        )
        package = missing_package(name)
        if package is not None:
            remedy = f"the package {package} brings it: pip install {package}"
        return UnknownNameError(self.kind, name, [*self.entries(), *also], remedy)

    def entries(self) -> dict[str, T]:
        """All entries by name: what ships first, then guests."""
        if not self._loaded:
            self._loaded = True  # before loading: a module that is imported here may look something up
            self._load_builtin()
            for point in entry_points(group=self.group):
                self._load_guest(point)
        return dict(self._entries)

    def origin(self, name: str) -> str:
        """Module or file that registered a name."""
        self.get(name)
        return self._origins[name]

    def read_yaml(self, text: str, origin: str) -> None:
        """Register what a YAML text describes.

        Raises:
            ApetError: entries of this kind are not written in YAML, or the text does not fit.
        """
        if self._read_yaml is None:
            raise ApetError(f"{origin}: a {self.kind} cannot be written in YAML; give a Python file")
        self._read_yaml(text, origin)

    def __contains__(self, name: object) -> bool:
        return name in self.entries()

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries())

    def _load_guest(self, point: EntryPoint) -> None:
        """Register what an installed package offers through an entry point.

        The entry point may name a module or package (importing it registers what it defines, and YAML files in its
        folder are read), a class that registers itself, or a function without arguments that registers or returns
        entries by name.

        Raises:
            ApetError: loading it fails; a guest that is installed and does not work is never skipped in silence.
        """
        origin = f"entry point {point.name} of {self.group}"
        try:
            loaded = point.load()
            if callable(loaded) and not isinstance(loaded, type):
                loaded = loaded()
        except Exception as e:  # whatever a guest's code raises is the guest's to mend
            self._loaded = False
            raise ApetError(f"{origin} does not load ({_where(e)}); update or uninstall its package") from e
        if isinstance(loaded, ModuleType):
            if self._read_yaml is not None:
                # By __path__ and not __file__: a folder that holds nothing but YAML files is a namespace package.
                folders = getattr(loaded, "__path__", None) or [Path(loaded.__file__ or ".").parent]
                for path in sorted(p for folder in folders for p in Path(folder).glob("*.yaml")):
                    self.read_yaml(path.read_text("utf-8"), str(path))
        elif isinstance(loaded, Mapping):
            for name, entry in loaded.items():
                self.register(name, entry, origin)


def missing_package(name: str) -> str | None:
    """The distribution that a known guest's name comes with, where it is not installed; else None."""
    package = next((p for pattern, p in GUEST_PACKAGES.items() if fnmatch.fnmatchcase(name, pattern)), None)
    if package is None:
        return None
    try:
        distribution(package)
    except PackageNotFoundError:
        return package
    return None


def load_modules(package: str, paths: Iterable[str]) -> None:
    """Import every module of a package, so that each registers what it defines.

    Args:
        package: dotted name, such as ``"apet.methods"``.
        paths: its ``__path__``.
    """
    import pkgutil

    for module in pkgutil.iter_modules(paths):
        importlib.import_module(f"{package}.{module.name}")


_imported: dict[str, str] = {}


def import_guest(spec: str) -> None:
    """Import a guest's file or module, so that it registers what it defines.

    Args:
        spec: path of a Python or YAML file, or the dotted name of an importable module.

    Raises:
        ApetError: no such file or module, or importing it fails; the message names its line.
    """
    path = Path(spec).expanduser()
    if path.suffix in (".py", ".yaml", ".yml"):
        if not path.is_file():
            raise ApetError(
                f"cannot import {spec!r}: there is no such file; give the path of a Python or YAML file, or a module"
            )
        path = path.resolve()
        key = str(path)
        if key in _imported:
            return
        content = path.read_bytes()
        if path.suffix == ".py":
            _execute(path)
        else:
            _read_yaml_file(path)
        _imported[key] = hashlib.sha256(content).hexdigest()[:16]
        return
    if spec in _imported:
        return
    try:
        module = importlib.import_module(spec)
    except Exception as e:  # whatever a guest's module raises is the guest's to mend
        raise ApetError(
            f"importing {spec!r} fails: {_where(e)}; give a Python file, or a module that can be imported"
        ) from e
    source = Path(module.__file__) if module.__file__ else None
    content = source.read_bytes() if source is not None and source.is_file() else spec.encode()
    _imported[spec] = hashlib.sha256(content).hexdigest()[:16]


def imported() -> dict[str, str]:
    """Guests imported so far: path or module -> fingerprint of its source, 16 hex digits. For a run's provenance."""
    return dict(_imported)


def _execute(path: Path) -> None:
    # A name of its own: two guests' files may both be called my_method.py, and classes must be found when unpickled.
    name = f"apet_guest_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        del sys.modules[name]
        raise ApetError(f"importing {str(path)!r} fails: {_where(e)}") from e


def _where(error: BaseException) -> str:
    """What an exception says, and the line it came from."""
    if isinstance(error, ApetError):
        return str(error)
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    # A module that does not exist has no line of its own: only frames of the import system and of this module.
    importing_files = (__file__, importlib.__file__)
    guest = [(file, line) for file, line in frames if not file.startswith("<frozen") and file not in importing_files]
    place = f" (at {Path(guest[-1][0]).name}:{guest[-1][1]})" if guest else ""
    return f"{type(error).__name__}: {error}{place}"


YAML_KINDS = {
    "family": "apet.backbones.family:FAMILIES",
    "template": "apet.tasks.task:TASKS",
    "backbones": "apet.studies.study_file:SUITES",
}
"""A key that only one kind of file has -> its registry. By name, since those modules stand above this one."""


def _read_yaml_file(path: Path) -> None:
    """Register what a YAML file describes; its keys say which kind of thing that is."""
    text = path.read_text("utf-8", errors="replace")
    keys = {line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()}
    for key, address in YAML_KINDS.items():
        if key in keys:
            module, _, name = address.partition(":")
            registry = getattr(importlib.import_module(module), name)
            assert isinstance(registry, Registry)
            registry.read_yaml(text, str(path))
            return
    raise ApetError(
        f"cannot import {str(path)!r}: this YAML describes no family (key 'family'), task ('template') or study"
        " ('backbones')"
    )
