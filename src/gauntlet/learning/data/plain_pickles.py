"""Pickles of plain values and integer arrays, read without executing anything.

`pickletools` splits a pickle into its instructions. Those that build numbers, text, lists, tuples and dictionaries are
followed here; a call is kept as a record of the function's name and its arguments. Nothing that a file names is
imported or called, and only the functions with which NumPy stores arrays may be named at all.
"""

from __future__ import annotations

import pickletools
import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from gauntlet.core.errors import InputError, first_line, located

REMEDY = "unpack the published archive again"

_FUNCTIONS = {
    "_codecs encode": "encode",  # byte strings, as Python 3 stores them for Python 2
    "numpy dtype": "dtype",
    "numpy ndarray": "ndarray",
    **{
        f"{core}.{name}": name.split()[1]
        for core in ("numpy.core", "numpy._core")
        for name in ("multiarray _reconstruct", "multiarray scalar", "numeric _frombuffer")
    },
}
"""Names of the functions that a pickle may name, by module and name."""

_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    )
)
"""Instructions whose argument is the value."""


@dataclass(frozen=True)
class _Function:
    name: str


@dataclass
class _Call:
    """A call that a pickle asks for, and that is not made; `state` is what would be set on its result."""

    function: str
    arguments: tuple[Any, ...]
    state: Any = None


def read_plain_pickle(content: bytes, where: str) -> Any:
    """Return the value of a pickle of any protocol; the strings of Python 2 are text in Latin-1, as are keys.

    Arrays and numbers of NumPy are to be converted by `integer_array`. Raises InputError that names `where` for a
    pickle that is damaged, or that holds anything but plain values and arrays.
    """
    with located(where):
        try:
            with warnings.catch_warnings():  # of damaged text
                warnings.simplefilter("ignore")
                return _Reader().read(content)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise InputError(f"is damaged or no pickle ({first_line(error)[:200]})", remedy=REMEDY) from error


def integer_array(value: Any, where: str) -> np.ndarray[Any, Any]:
    """Return the integers that a value of a pickle holds: an array of NumPy, or a list of numbers, as int64 `(N,)`.

    Raises InputError that names `where` if it is neither.
    """
    with located(where):
        try:
            if isinstance(value, list):
                return np.array([_integer(item) for item in value], np.int64)
            return _array(value)
        except (ValueError, LookupError, TypeError, OverflowError) as error:
            raise InputError(f"has a damaged array ({first_line(error)[:200]})", remedy=REMEDY) from error


class _Reader:
    """Interpreter of the instructions of one pickle: a stack, the stacks below open marks, and the memo."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def read(self, content: bytes) -> Any:
        """Return the value that the instructions build."""
        for instruction, argument, _ in pickletools.genops(content):
            self._follow(instruction.name, argument)
        return self._stack.pop()

    def _follow(self, name: str, argument: Any) -> None:
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _ if name in _LITERALS:
                self._stack.append(argument)
            case "BYTEARRAY8":
                self._stack.append(bytes(argument))
            case "NONE":
                self._stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                self._stack.append(name == "NEWTRUE")
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[argument])
            case "MARK":
                self._marks.append(self._stack)
                self._stack = []
            case "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_DICT":
                self._stack.append({"L": [], "T": (), "D": {}}[name[6]])
            case "LIST" | "TUPLE":
                items = self._marked()
                self._stack.append(items if name == "LIST" else tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._stack.append(tuple(self._last(int(name[-1]))))
            case "DICT":
                items = self._marked()
                self._stack.append({})
                self._set_items(items)
            case "APPEND" | "APPENDS":
                items = self._last(1) if name == "APPEND" else self._marked()
                self._stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                self._set_items(self._last(2) if name == "SETITEM" else self._marked())
            case "GLOBAL":
                self._stack.append(_function(argument))
            case "STACK_GLOBAL":
                self._stack.append(_function(" ".join(self._last(2))))
            case "REDUCE":
                function, arguments = self._last(2)
                self._stack.append(_call(function, arguments))
            case "BUILD":
                (state,) = self._last(1)
                if not isinstance(self._stack[-1], _Call):
                    raise _refusal("the state of an object")
                self._stack[-1].state = state
            case _:
                raise _refusal(f"the instruction {name}")

    def _marked(self) -> list[Any]:
        """Return the values above the last mark, and remove them with it."""
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _last(self, count: int) -> list[Any]:
        """Return the last values of the stack, and remove them. Raises IndexError if there are fewer."""
        return [self._stack.pop() for _ in range(count)][::-1]

    def _set_items(self, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._stack[-1][_key(key)] = value


def _key(key: Any) -> str | int:
    if isinstance(key, bytes):
        return key.decode("latin-1")
    # The hash of a tuple that is nested deeply would overflow the stack of the process.
    if not isinstance(key, str | int):
        raise _refusal(f"a key of type {type(key).__name__}")
    return key


def _function(name: str) -> _Function:
    if name not in _FUNCTIONS:
        raise _refusal(name.replace(" ", "."))
    return _Function(_FUNCTIONS[name])


def _refusal(found: str) -> InputError:
    problem = f"contains more than arrays and plain values ({found}): pickles are not executed"
    return InputError(problem, remedy="use the published file")


def _call(function: Any, arguments: Any) -> Any:
    """Return the record of a call; the byte string itself for one that is written as text."""
    if not isinstance(function, _Function) or not isinstance(arguments, tuple):
        raise _refusal("a call of a value")
    if function.name != "encode":
        return _Call(function.name, arguments)
    text, encoding = arguments
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("a byte string in another encoding than latin1")
    return str.encode(text, "latin-1")


def _array(value: Any) -> np.ndarray[Any, Any]:
    if not isinstance(value, _Call):
        raise TypeError(f"expected an array, found {type(value).__name__}")
    if value.function == "_reconstruct":
        _, shape, dtype, fortran, content = value.state
    elif value.function == "_frombuffer":
        content, dtype, shape, order = value.arguments
        fortran = order == "F"
    elif value.function == "scalar":
        (dtype, content), shape, fortran = value.arguments, (), False
    else:
        raise TypeError(f"expected an array, found {value.function}")
    if isinstance(content, str):
        content = content.encode("latin-1")
    array: np.ndarray[Any, Any] = np.frombuffer(content, _dtype(dtype))
    return array.reshape(shape, order="F" if fortran else "C")


def _dtype(value: Any) -> np.dtype[Any]:
    if not isinstance(value, _Call) or value.function != "dtype":
        raise TypeError("expected a dtype")
    code, order = value.arguments[0], value.state[1] if value.state else "|"
    if isinstance(code, bytes):
        code = code.decode("latin-1")
    if not isinstance(code, str) or not re.fullmatch(r"[iu][1248]", code) or order not in ("<", ">", "|", "="):
        raise TypeError(
            f"expected integers, found {f'values of type {code[:20]}' if isinstance(code, str) else 'others'}"
        )
    return np.dtype(order + code)


def _integer(value: Any) -> int:
    if isinstance(value, _Call) and value.function == "scalar":
        return int(_array(value))
    if not isinstance(value, int):
        raise TypeError(f"expected an integer, found {type(value).__name__}")
    return value
