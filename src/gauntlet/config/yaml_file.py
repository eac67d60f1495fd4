"""YAML 1.2 files as plain values, with the line and column of every key.

ruamel.yaml parses; values are built here from its events. Tags are refused, so no file chooses what is constructed.
"""

from __future__ import annotations

import codecs
import copy
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from gauntlet.config.components import KeyPath
from gauntlet.config.yaml_scalars import REFUSED_CHARACTERS, plain_scalar
from gauntlet.core.errors import InputError, first_line

Position = tuple[int, int]
"""Line and column, counted from 1."""

Tree = Mapping[str, tuple[Position, "Tree"]]
"""Keys of a mapping, or indices of a list, to their position and what is below them."""

_parsed_texts: dict[str, tuple[Position, _Node]] = {}
_MOST_TEXTS = 16

_MAX_DEPTH = 100
_MAX_NODES = 1_000_000
_MIXED_KEYS = "the keys of a mapping are all names or all integers; quote the integers"


@dataclass(frozen=True)
class YamlFile:
    """A YAML file that holds one mapping."""

    path: Path
    content: dict[Any, Any]
    start: Position
    tree: Tree

    def where(self, key_path: KeyPath) -> str:
        """Return ``file:line:column: key.path`` of a key; of the mapping or list above it where it is not written."""
        position, _, _ = self._find(key_path)
        return _where(self.path, position, key_path)

    def keys(self, key_path: KeyPath) -> Collection[str]:
        """Return the keys of the mapping, or the indices of the list, at a key path; none where it is neither."""
        _, tree, missing = self._find(key_path)
        return () if missing else tree

    def _find(self, key_path: KeyPath) -> tuple[Position, Tree, KeyPath]:
        """Follow a key path as far as it is written; also return the rest of it."""
        position, tree = self.start, self.tree
        for depth, part in enumerate(map(str, key_path)):
            if part not in tree:
                return position, tree, key_path[depth:]
            position, tree = tree[part]
        return position, tree, ()


def read_yaml(path: Path) -> YamlFile:
    """Read a YAML file that holds one mapping. Raises InputError that names file, line, column and key path."""
    check_name(path)
    position, node = _document(path, _text(path))
    remedy = "expected a mapping with the key 'experiments'"
    if node.value is None:
        raise InputError("is empty", where=_where(path, position), remedy=remedy)
    if not isinstance(node.value, dict):
        raise InputError(f"holds a {type(node.value).__name__}", where=_where(path, position), remedy=remedy)
    return YamlFile(path, node.value, position, node.tree)


def read_ahead(path: Path) -> None:
    """Parse a file, so that forks of this process need not; errors, of whatever kind, are theirs to report."""
    with suppress(Exception):
        _document(path, _text(path))


def _document(path: Path, text: str) -> tuple[Position, _Node]:
    """Parse a text, once; the caller may change the result."""
    if text not in _parsed_texts:
        document = _Parser(path, text).document()
        if len(_parsed_texts) >= _MOST_TEXTS:
            _parsed_texts.clear()
        _parsed_texts[text] = document
    position, node = _parsed_texts[text]
    return position, node._replace(value=copy.deepcopy(node.value))


def check_name(path: Path) -> None:
    """Raise InputError for a path with a line break, or another character that no line of a log can hold."""
    if re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", str(path)):
        raise InputError(
            "this name has a line break or a control character", where=ascii(str(path)), remedy="rename it"
        )


def _where(path: Path, position: Position, key_path: KeyPath = ()) -> str:
    line, column = position
    return f"{path}:{line}:{column}" + (f": {'.'.join(map(str, key_path))}" if key_path else "")


def _text(path: Path) -> str:
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
        text = content.decode("utf-8")
    except OSError as error:
        remedy = "name an existing file, or begin with `gauntlet init`"
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), remedy=remedy) from error
    except UnicodeDecodeError as error:
        position = _position(content[: error.start].decode("utf-8"))
        raise InputError("is no UTF-8 text", where=_where(path, position), remedy="save it as UTF-8") from error
    if refused := REFUSED_CHARACTERS.search(text):
        raise InputError(_character(refused[0]), where=_where(path, _position(text[: refused.start()])))
    return text


def _position(text_before: str) -> Position:
    lines = re.split(r"\r\n|\r|\n", text_before)
    return len(lines), len(lines[-1]) + 1


def _character(character: str) -> str:
    return f"the character U+{ord(character):04X} is not allowed"


class _Node(NamedTuple):
    """A value, the positions below it, and the number of nodes that it expands to."""

    value: Any
    tree: Tree
    size: int


class _Parser:
    """Builds plain values from parsing events, so that each error knows its position and key path."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._events = self._parsed(text)
        self._anchors: dict[str, _Node] = {}

    def document(self) -> tuple[Position, _Node]:
        """Return the only document with the position of its first node; an empty file holds null."""
        position, node = (1, 1), _Node(None, {}, 1)
        documents = 0
        for event in self._events:
            if isinstance(event, DocumentEndEvent):
                documents += 1
            elif isinstance(event, DocumentStartEvent):
                if documents:
                    raise self._error("a configuration is one document, this is a second", _start(event))
                first = next(self._events)
                position, node = _start(first), self._node(first, ())
        return position, node

    def _parsed(self, text: str) -> Iterator[Any]:
        position = (1, 1)
        try:
            for event in YAML(typ="safe", pure=True).parse(text):
                position = _start(event)
                yield event
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = f"is no plain YAML: {error.problem or error.context}"
            raise self._error(problem, (mark.line + 1, mark.column + 1)) from error
        except (YAMLError, ValueError, OverflowError, AssertionError) as error:
            # A character such as "\UFFFFFFFF" or a version such as 1.3 ends the parser without a mark.
            reason = first_line(error)
            raise self._error(f"is no plain YAML after this: {reason}", position) from error

    def _node(self, event: Any, key_path: KeyPath) -> _Node:
        if isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                problem = f"no anchor &{event.anchor} ends before this alias"
                raise self._error(problem, _start(event), key_path)
            return self._anchors[event.anchor]
        if event.tag is not None:
            raise self._error("tags are not allowed; quote a value that is text", _start(event), key_path)
        if len(key_path) > _MAX_DEPTH:
            raise self._error(f"is nested more than {_MAX_DEPTH} levels deep", _start(event), key_path[:3])
        if isinstance(event, ScalarEvent):
            node = _Node(self._scalar(event, key_path), {}, 1)
        elif isinstance(event, SequenceStartEvent):
            node = self._sequence(key_path)
        else:
            node = self._mapping(key_path)
        if node.size > _MAX_NODES:
            raise self._error(f"its aliases expand to more than {_MAX_NODES} values", _start(event), key_path)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _sequence(self, key_path: KeyPath) -> _Node:
        items: list[_Node] = []
        tree: dict[str, tuple[Position, Tree]] = {}
        while not isinstance(event := next(self._events), SequenceEndEvent):
            index = str(len(items))
            items.append(self._node(event, (*key_path, index)))
            tree[index] = _start(event), items[-1].tree
        return _Node([item.value for item in items], tree, 1 + sum(item.size for item in items))

    def _mapping(self, key_path: KeyPath) -> _Node:
        own: dict[Any, Any] = {}
        tree: dict[str, tuple[Position, Tree]] = {}
        merged: _Node | None = None
        merge_position = (1, 1)
        size = 1
        while not isinstance(event := next(self._events), MappingEndEvent):
            position = _start(event)
            if _is_merge(event):
                if merged is not None:
                    raise self._error("the key '<<' is given twice; merge a list: <<: [*a, *b]", position, key_path)
                merged, merge_position = self._merged(key_path), position
                size += merged.size
                continue
            key = self._key(event, own, key_path)
            own[key] = None
            value = self._node(next(self._events), (*key_path, str(key)))
            own[key], tree[str(key)] = value.value, (position, value.tree)
            size += value.size
        if merged is None:
            return _Node(own, tree, size)
        content = {**merged.value, **own}
        if len({type(key) for key in content}) > 1:
            raise self._error(_MIXED_KEYS, merge_position, key_path)
        return _Node(content, {**merged.tree, **tree}, size)

    def _key(self, event: NodeEvent, siblings: Mapping[Any, Any], key_path: KeyPath) -> str | int:
        # A mapping or list is no key, and is not followed: keys of keys would nest without limit.
        key = self._node(event, key_path).value if isinstance(event, ScalarEvent | AliasEvent) else None
        if isinstance(key, bool) or not isinstance(key, str | int) or not str(key).isprintable():
            raise self._error("a key is a name or an integer, in one line; quote other text", _start(event), key_path)
        if key in siblings:
            raise self._error(f"the key {key!r} is given twice", _start(event), key_path)
        if siblings and type(next(iter(siblings))) is not type(key):
            raise self._error(_MIXED_KEYS, _start(event), key_path)
        return key

    def _merged(self, key_path: KeyPath) -> _Node:
        """Return what ``<<`` merges: a mapping, or a list of mappings of which earlier ones take precedence."""
        event = next(self._events)
        node = self._node(event, (*key_path, "<<"))
        if isinstance(node.value, dict):
            return node
        if not isinstance(node.value, list) or not all(isinstance(item, dict) for item in node.value):
            problem = "'<<' merges a mapping or a list of mappings"
            raise self._error(problem, _start(event), key_path)
        content: dict[Any, Any] = {}
        tree: dict[str, tuple[Position, Tree]] = {}
        for index in reversed(range(len(node.value))):
            content |= node.value[index]
            tree |= node.tree[str(index)][1]
        return _Node(content, tree, node.size)

    def _scalar(self, event: ScalarEvent, key_path: KeyPath) -> Any:
        text: str = event.value
        if refused := REFUSED_CHARACTERS.search(text):
            raise self._error(_character(refused[0]), _start(event), key_path)
        plain, _ = event.implicit
        if not plain:
            return text
        try:
            return plain_scalar(text)
        except ValueError as error:
            raise self._error(str(error), _start(event), key_path) from error

    def _error(self, problem: str, position: Position, key_path: KeyPath = ()) -> InputError:
        return InputError(problem, where=_where(self.path, position, key_path))


def _start(event: Any) -> Position:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _is_merge(event: Any) -> bool:
    return isinstance(event, ScalarEvent) and event.value == "<<" and bool(event.implicit[0])
