"""The sandbox's child: locks itself in, takes one program, answers calls until its pipe ends.

Run as a script by process.py, with nothing of llmrl but its neighbours:
    python -s -S -B child.py <read fd> <write fd> <parent pid> <memory_mb> <cpu_seconds> <output_mb> <directories>
where the directories hold numpy and the libraries of locks.py.
"""

import os
import sys

if __name__ == "__main__":
    sys.path += sys.argv[7:]

import builtins
import copy
import functools
import gc
import math  # noqa: F401  (programs import it when no file can be opened any more)
import pickle
import warnings
from collections.abc import Callable, Sequence
from types import FunctionType

import locks  # type: ignore[import-not-found]  # both lie beside this file, which runs as a script
import numpy as np
import numpy.fft
import numpy.linalg
import numpy.ma
import numpy.polynomial
import wire  # type: ignore[import-not-found]

GENERATED = "<generated>"


def main(read_fd: int, write_fd: int, parent: int, memory_mb: int, cpu_seconds: int, output_mb: int) -> None:
    warnings.simplefilter("ignore")
    # what memory held before is no value of a program
    np.empty, np.empty_like = np.zeros, np.zeros_like  # type: ignore[misc, assignment]
    np.seterr(all="ignore")  # what numpy warns of goes nowhere, and finding that out costs time
    layers = locks.lock_in(parent, memory_mb, cpu_seconds)
    sys.path.clear()
    os.environ.clear()
    gc.collect()
    gc.freeze()  # what is here stays; the collector need not look at it again
    answer(write_fd, "ready", text="\n".join(f"{name}\t{state}" for name, state in layers.items()))
    program = {"__name__": "generated", "__builtins__": builtins}
    ready = False
    beginnings = wire.Beginnings()
    last: tuple[bytes, int, str, list[wire.Place]] = b"", 0, "", []
    while data := bytearray(os.read(read_fd, 65536)):
        if len(data) != last[1] or not data.startswith(last[0]):  # another request than the one before
            last = whole(read_fd, data)
        prefix, _, name, places = last
        arrays = wire.unpack(places, data, len(prefix))
        try:
            if ready:
                values: Sequence = outputs(function(program, name)(*arrays), output_mb)
            else:
                values = define(program, *(array.tobytes().decode() for array in arrays))
                ready = True
            begins = beginnings.of("values", values)
        except BaseException as error:  # noqa: BLE001 (SystemExit as well: a program ends nothing)
            answer(write_fd, *failure(error))
        else:
            send(write_fd, wire.of_arrays(begins, values))


def define(program: dict, code: str, entry: str, functions: str) -> tuple:
    """Executes the generated program and then our entry in one namespace."""
    execute(code, program, functions.split())
    for name in functions.split():
        function(program, name)
    exec(compile(entry, "<entry>", "exec"), program)
    return ()


def execute(code: str, program: dict, functions: list[str]) -> None:
    """Runs a program's top level. What stands there is constant: arrays become read-only, lists and the like are made
    anew whenever one of the functions is called."""
    exec(compile(code, GENERATED, "exec"), program)
    for value in program.values():
        freeze(value)
    if lists := {name: value for name, value in program.items() if holds_lists(value)}:
        for name in functions:
            program[name] = with_lists(function(program, name), program, lists)


def with_lists(called: Callable, program: dict, lists: dict) -> Callable:
    try:
        again = functools.partial(pickle.loads, pickle.dumps(lists))
    except Exception:  # noqa: BLE001 (there are functions in them: ten times slower)
        again = functools.partial(copy.deepcopy, lists)

    def call(*arguments: object) -> object:
        program.update(again())
        return called(*arguments)

    return call


def holds_lists(value: object) -> bool:
    if isinstance(value, (tuple, frozenset)):
        return any(holds_lists(item) for item in value)
    if isinstance(value, slice):
        return holds_lists((value.start, value.stop, value.step))
    return isinstance(value, (list, dict, set))


def freeze(value: object) -> None:
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("an array of objects outside of functions can change between calls")
        value.setflags(write=False)
    elif isinstance(value, (tuple, frozenset, list, set)):
        for item in value:
            freeze(item)
    elif isinstance(value, dict):
        freeze(tuple(value.values()))
    elif isinstance(value, slice):
        freeze((value.start, value.stop, value.step))
    elif isinstance(value, FunctionType):
        freeze(value.__defaults__)
        freeze(tuple((value.__kwdefaults__ or {}).values()))


def function(program: dict, name: str) -> Callable:
    found = program.get(name)
    if not callable(found):
        raise Missing(f"no function {name}")
    return found


class Missing(Exception):
    """The program does not define a function that it should."""


class BadOutput(Exception):
    """What the program returned are no arrays of numbers."""


def outputs(result: object, output_mb: int) -> list[np.ndarray]:
    """A tuple's items, or the one value, as arrays that may cross. Raises BadOutput."""
    arrays = []
    for value in result if isinstance(result, tuple) else (result,):
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise BadOutput(f"a {type(value).__name__} that is no array: {error}") from None
        if array.dtype not in wire.DTYPES:
            if array.dtype.kind not in "iuf" or not np.can_cast(array.dtype, np.float64, "safe"):
                raise BadOutput(f"a {type(value).__name__} of {array.dtype}, numbers are asked for")
            array = array.astype(np.float64)
        arrays.append(array)
    if sum([array.nbytes for array in arrays]) > output_mb * 2**20:
        raise BadOutput(f"more than {output_mb} MB")
    return arrays


def failure(error: BaseException) -> tuple[str, str]:
    """Its name, and what is told of it: type, message, and the line of the program."""
    try:
        if isinstance(error, MemoryError):
            return "memory", "it asked for more memory than the limit"
        if isinstance(error, (Missing, BadOutput, wire.WireError)):
            return "missing_function" if isinstance(error, Missing) else "bad_output", str(error)
        line, trace = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None, error.__traceback__
        while trace is not None:
            line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == GENERATED else line
            trace = trace.tb_next
        name = "syntax" if isinstance(error, SyntaxError) else "raised"
        told = ": ".join(filter(None, (type(error).__name__ or "an exception", str(error)[:300])))
        return name, told + (f" (line {line})" if line else "")
    except BaseException:  # noqa: BLE001 (the program's own __str__ may do anything)
        return "raised", "an exception that cannot be shown"


def whole(fd: int, data: bytearray) -> tuple[bytes, int, str, list[wire.Place]]:
    """Reads a request's rest into `data`: all before its payload, its length, the function's name, its arrays. They
    are the program's own: it may write into them."""
    rest, n_header = wire.START.unpack_from(data)
    while len(data) < 4 + rest:
        data += os.read(fd, 2**20)
    start = wire.START.size + n_header
    name, arrays, _ = wire.layout(bytes(data[wire.START.size : start]))
    return bytes(data[:start]), len(data), name, arrays


def answer(fd: int, name: str, text: str) -> None:
    send(fd, wire.of_text(name, text))


def send(fd: int, data: bytes) -> None:
    sent = os.write(fd, data)
    while sent < len(data):
        sent += os.write(fd, memoryview(data)[sent : sent + 2**20])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:7]))
