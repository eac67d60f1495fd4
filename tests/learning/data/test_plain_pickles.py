"""Pickles of plain values and arrays, read without executing anything."""

from __future__ import annotations

import codecs
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gauntlet.core.errors import InputError
from gauntlet.learning.data.plain_pickles import integer_array, read_plain_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

PYTHON_2 = (
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87"
    b"Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff"
    b"\xff\xff\xffK\x00tb\x89U\x06\x00\x7f\x80\xc8\xff\ntbU\x06labelsq\x08]q\t(K\x06K\teU\x0bbatch_labelq\nU\x14testin"
    b"g batch 1 of 1q\x0bu."
)
"""`cPickle.dumps(…, 2)` of Python 2.7.18 with NumPy 1.16.6, the form of CIFAR's files."""


def test_a_pickle_of_python_2_is_read() -> None:
    """Its strings are text, and the bytes of its array are unchanged."""
    value = read_plain_pickle(PYTHON_2, "f")
    assert value["batch_label"] == "testing batch 1 of 1"
    assert value["labels"] == [6, 9]
    array = integer_array(value["data"], "f")
    assert array.dtype == np.uint8
    assert array.tolist() == [[0, 127, 128], [200, 255, 10]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_of_python_3_is_read(protocol: int) -> None:
    """Plain values, byte strings, arrays in either order of memory, and NumPy's integers."""
    array = np.arange(600, dtype=np.uint8).reshape(3, 200)
    plain = {"a": [1, -2, 3 << 40, True, None, 0.5], "b": ({"c": "é"}, (), [], {}), 7: b"\x00\xff", "text": "x" * 300}
    content = {**plain, "data": array, "fortran": np.asfortranarray(array), "labels": [np.int64(2), 3]}
    content["again"] = content["data"]
    value = read_plain_pickle(pickle.dumps(content, protocol), "f")
    assert {key: value[key] for key in plain} == plain
    for key in ("data", "fortran", "again"):
        assert np.array_equal(integer_array(value[key], "f"), array)
    assert integer_array(value["labels"], "f").tolist() == [2, 3]
    assert list(read_plain_pickle(pickle.dumps({b"data": 1}, protocol), "f")) == ["data"]


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i4", "<u8"])
def test_integers_of_every_size_and_byte_order_are_read(dtype: str) -> None:
    """The byte order is part of the state of NumPy's type."""
    array = np.array([1, 2, 100], dtype)
    for protocol in PROTOCOLS:
        value = read_plain_pickle(pickle.dumps(array, protocol), "f")
        assert integer_array(value, "f").tolist() == [1, 2, 100]


class Malicious:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Plain:
    """An object of a class of our own."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, r"\.system"), (eval, r"\.eval"), (subprocess.Popen, r"\.Popen"), (np.save, r"numpy\.save")],
)
def test_a_malicious_pickle_executes_nothing(tmp_path: Path, protocol: int, function: Any, named: str) -> None:
    """The function is named, and neither imported nor called."""
    done = tmp_path / "done"
    argument = f"open({str(done)!r}, 'w')" if function is eval else f"touch {done}"
    for value in (Malicious(function, argument), {"data": [Malicious(function, argument)]}):
        with pytest.raises(InputError, match=rf"f: contains more than .*{named}.*not executed"):
            read_plain_pickle(pickle.dumps(value, protocol), "f")
    assert not done.exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (pickle.dumps(Plain()), "Plain"),
        (pickle.dumps({1, 2}), "instruction EMPTY_SET"),
        (b"\x80\x02(cposix\nsystem\nX\x02\x00\x00\x00lso.", r"posix\.system|instruction OBJ"),
        (b"(S'ls'\niposix\nsystem\n.", "instruction INST"),
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"Pname\n.", "instruction PERSID"),
        (b"\x80\x02cnumpy\ndtype\n}X\x01\x00\x00\x00aK\x01sb.", "state of an object"),
        (b"\x80\x02K\x01)R.", "a call of a value"),
        (b"\x80\x02}((K\x01tK\x01u.", "a key of type tuple"),
    ],
)
def test_other_objects_and_instructions_are_refused(content: bytes, found: str) -> None:
    """Only what stores plain values and arrays is followed."""
    with pytest.raises(InputError, match=found):
        read_plain_pickle(content, "f")


def test_other_encodings_than_that_of_pickles_are_refused() -> None:
    """`_codecs.encode` is allowed for byte strings alone; other codecs would run more code."""
    with pytest.raises(InputError, match="another encoding"):
        read_plain_pickle(pickle.dumps(Malicious(codecs.encode, "x", "zlib"), 2), "f")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        b"\x80\x04",
        b"\x80\x02h\x07.",
        b"\x80\x02.",
        b"K\x01a.",
        b"u.",
        b"\x80\x02}(K\x01u.",
        b"b.",
    ],
)
def test_damaged_pickles_are_named_in_one_line(content: bytes) -> None:
    """Whatever is wrong, the file is named and no other exception leaves."""
    with pytest.raises(InputError, match="f: is damaged or no pickle") as caught:
        read_plain_pickle(content, "f")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.zeros(2), np.array(["a"]), np.array([None]), "text", 3, ["a"], [[1]], [0.5]])
def test_values_other_than_integers_are_no_array(value: Any) -> None:
    """Floats, text and objects are refused."""
    with pytest.raises(InputError, match="f: has a damaged array"):
        integer_array(read_plain_pickle(pickle.dumps(value, 2), "f"), "f")


def test_arrays_with_too_few_bytes_are_refused() -> None:
    """The shape must fit the bytes."""
    content = pickle.dumps(np.zeros((2, 3), np.uint8), 3).replace(b"K\x02K\x03", b"K\x02K\x04")
    with pytest.raises(InputError, match="f: has a damaged array"):
        integer_array(read_plain_pickle(content, "f"), "f")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PROTOCOLS), st.integers(0, 400), st.binary(max_size=6), st.integers(0, 8))
def test_random_damage_is_read_or_refused_in_one_line(protocol: int, start: int, inserted: bytes, removed: int) -> None:
    """No other exception, whatever bytes are replaced."""
    content = pickle.dumps({"data": np.zeros((2, 8), np.uint8), "labels": [1, np.int64(2)]}, protocol)
    content = content[:start] + inserted + content[start + removed :]
    refusal = ""
    try:
        value = read_plain_pickle(content, "f")
        for item in value.values() if isinstance(value, dict) else [value]:
            integer_array(item, "f")
    except InputError as error:
        refusal = str(error)
    assert "\n" not in refusal
