"""Where things stand in a YAML text: line numbers for messages, and words that YAML does not read as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import yaml

from apet.errors import ApetError


def load_mapping(text: str, where: str) -> dict[str, object]:
    """The mapping that a YAML text holds.

    Args:
        text: YAML.
        where: the file's name, for messages.

    Returns:
        Keys and values, as YAML reads them.

    Raises:
        ApetError: not valid YAML, not a mapping, or a key that is not text; the line is named.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ApetError(f"{where}{line}: not valid YAML ({getattr(e, 'problem', e)})") from e
    except ValueError as e:  # a word that looks like a date or a number to YAML, and is not a valid one
        line_number, word = _unreadable_word(text)
        raise ApetError(
            f"{where}:{line_number}: {word} is not a valid value ({e}); write it in quotes if it is text"
        ) from e
    if not isinstance(raw, Mapping):
        raise ApetError(f"{where}: holds no mapping; expected lines such as 'backbones: [...]'")
    for node, is_key in _scalars(yaml.compose(text)):
        # YAML 1.1 reads no, on and 3 as bool and int; such a key would be "unknown" in a spelling that nobody typed.
        if is_key and node.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            kind = node.tag.rpartition(":")[2]
            raise ApetError(
                f"{where}:{node.start_mark.line + 1}: key {node.value} reads as {kind} in YAML; write it in quotes"
            )
    return dict(raw)


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line of a key or of a list's item, counted from 1.

    Args:
        text: YAML.
        path: keys and positions that lead to it, from the top.

    Returns:
        Its line; that of its nearest parent where it is not in the text (a key that is missing).
    """
    # Composed, not loaded: only nodes know their lines.
    node = yaml.compose(text)
    line = 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _scalars(node: yaml.Node | None) -> Iterator[tuple[yaml.ScalarNode, bool]]:
    """Every word of a parsed text, and whether it is a key."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key, True
            yield from _scalars(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item)
    elif isinstance(node, yaml.ScalarNode):
        yield node, False


def _unreadable_word(text: str) -> tuple[int, str]:
    """Line and word of the first one that YAML takes for a date or a number and cannot read."""
    # Word by word: Python's own error, unlike one of YAML's parser, comes without a line.
    for node, _ in _scalars(yaml.compose(text)):
        try:
            yaml.constructor.SafeConstructor().construct_object(node)
        except ValueError:
            return node.start_mark.line + 1, repr(node.value)
    return 1, "a word"
