"""All kinds, in the order of the table."""

from __future__ import annotations

from .data_files import DataFiles
from .deltas import Deltas
from .kind import Kind
from .records import Records
from .run_folders import RunFolders
from .words import Words
from .yaml_files import YamlFiles

KINDS: tuple[type[Kind], ...] = (Deltas, YamlFiles, Words, DataFiles, Records, RunFolders)
