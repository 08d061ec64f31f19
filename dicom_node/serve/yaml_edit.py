"""Adding to a `node.yaml` as text, so that a person's comments and layout stay."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

import yaml

from dicom_node.errors import ConfigError

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./-]*\Z")
_FIX: Final = "add it by hand in the editor"


def add_peer(text: str, name: str, values: Mapping[str, str | int], *, accept: bool) -> str:
    """Return the text with another peer, and with its name in `accept_from`.

    Every other byte stays as it is.

    Args:
        values: Its keys: `ae_title`, `host`, `port`.
        accept: It may send to us; nothing is added where anyone may.

    Raises:
        ConfigError: The text is laid out in a way that cannot be added to.
    """
    text = _with_peer(text, name, values)
    return _accepting(text, name) if accept else text


def _with_peer(text: str, name: str, values: Mapping[str, str | int]) -> str:
    inner = ", ".join(f"{key}: {scalar(value)}" for key, value in values.items())
    entry = f"{scalar(name)}: {{{inner}}}"
    found = _section(text, "peers")
    if found is None:
        return f"{_ended(text)}\npeers:\n  {entry}\n"
    key, node = found
    if isinstance(node, yaml.MappingNode) and node.value:
        if name in {str(child.value) for child, _ in node.value}:
            raise ConfigError(f"peer {name}", "there is one of that name", "choose another name")
        if node.flow_style:
            end = node.value[-1][1].end_mark.index
            return f"{text[:end]}, {entry}{text[end:]}"
        last, column = node.value[-1][1], node.value[0][0].start_mark.column
        return _after_line(text, _content_end(last), " " * column + entry)
    if _is_empty(node):
        return _replaced_empty(text, key, node, f"  {entry}")
    raise ConfigError("peers", "it holds no keys", _FIX)


def _accepting(text: str, name: str) -> str:
    found = _section(text, "accept_from")
    if found is None:
        return f"{_ended(text)}\naccept_from: [{scalar(name)}]\n"
    key, node = found
    if isinstance(node, yaml.ScalarNode) and not _is_empty(node):
        if node.value in ("anyone", name):
            return text
        start, end = node.start_mark.index, node.end_mark.index
        return f"{text[:start]}[{text[start:end]}, {scalar(name)}]{text[end:]}"
    if isinstance(node, yaml.SequenceNode) and node.value:
        names = [str(child.value) for child in node.value]
        if name in names or names == ["anyone"]:
            return text
        if node.flow_style:
            end = node.value[-1].end_mark.index
            return f"{text[:end]}, {scalar(name)}{text[end:]}"
        last = node.value[-1]
        # the dash stands before the item, at the column of the sequence
        return _after_line(
            text, _content_end(last), " " * node.start_mark.column + f"- {scalar(name)}"
        )
    if _is_empty(node):
        return _replaced_empty(text, key, node, f"  - {scalar(name)}")
    raise ConfigError("accept_from", "it is no list of names", _FIX)


def scalar(value: str | int) -> str:
    """Write a value so that YAML reads back the same: plain where that is safe.

    Raises:
        ConfigError: It holds a control character.
    """
    if isinstance(value, int):
        return str(value)
    if not value.isprintable():
        raise ConfigError("a new peer", "a control character belongs into no name", "leave it out")
    if _PLAIN.match(value) and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _section(text: str, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError("node.yaml", "it holds no keys", _FIX)
    for key, value in root.value:
        if key.value == name:
            return key, value
    return None


def _is_empty(node: yaml.Node) -> bool:
    if isinstance(node, yaml.ScalarNode):
        return node.tag == "tag:yaml.org,2002:null"
    return isinstance(node, yaml.CollectionNode) and not node.value


def _replaced_empty(text: str, key: yaml.Node, node: yaml.Node, line: str) -> str:
    """Put a line under a key whose value is empty, in place of that value."""
    end = key.end_mark.index
    colon = text.index(":", end) + 1
    start, stop = node.start_mark.index, node.end_mark.index
    if stop > start:  # "{}", "[]", "null" or "~"
        text = f"{text[:start].rstrip(' ')}{text[stop:]}"
    return _after_line(text, colon - 1, line)


def _content_end(node: yaml.Node) -> int:
    """Return where the last character of a node is; a block's own mark lies behind comments."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _content_end(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _content_end(node.value[-1])
    return max(node.end_mark.index - 1, node.start_mark.index)


def _after_line(text: str, index: int, line: str) -> str:
    """Insert a line after the line that `index` is in."""
    newline = "\r\n" if "\r\n" in text else "\n"
    end = text.find("\n", index)
    if end < 0:
        return f"{text}{newline}{line}{newline}"
    return f"{text[: end + 1]}{line}{newline}{text[end + 1 :]}"


def _ended(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"
