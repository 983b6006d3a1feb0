"""Triton's interpreter without what it does again for every operation: half of its time, and the same values."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import triton
from triton.runtime import interpreter

WRITTEN_FOR = "3.8."
"""The Triton whose interpreter was read for this; another one's takes its own time."""
PATCHED: set[str] = set()


def call(function: Any, *arguments: Any, **options: Any) -> Any:
    """A function that a kernel calls. Triton patches the language for each such call, though it did so for the kernel's own."""
    if function.fn.__module__ not in PATCHED:  # the kernel's own file is patched already, that of Triton's functions is not
        PATCHED.add(function.fn.__module__)
        interpreter._patch_lang(function.fn)
    try:
        return function.rewrite()(*arguments, **options)
    except Exception as error:
        raise interpreter.InterpreterError(repr(error)) from error


def hurry() -> None:
    """To be called once, before the first kernel."""
    if not triton.__version__.startswith(WRITTEN_FOR):
        return
    of_scalar = cache(interpreter._get_np_dtype)
    interpreter._get_np_dtype = lambda kind: np.dtype(np.uint64) if kind.scalar.is_ptr() else of_scalar(kind.scalar)
    interpreter.InterpretedFunction.__call__ = call
    # Without `debug` Triton makes every sum again in 64 bits, and then asserts nothing of it.
    builder = interpreter.interpreter_builder
    assert not builder.options.debug
    builder.options = replace(builder.options, sanitize_overflow=False)
