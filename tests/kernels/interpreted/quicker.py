"""Triton's interpreter without what it does again for every operation: a quarter is left of its time, and the same values."""

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import triton
from triton.language import core, semantic
from triton.runtime import interpreter

WRITTEN_FOR = "3.8."
"""The Triton whose interpreter was read for this; another one's takes its own time."""
PATCHED: set[str] = set()
BLOCKS: dict[tuple[str, tuple[Any, ...]], dict[str, Any]] = {}
"""What a block_type holds, by its element's name and its shape."""


def call(function: Any, *arguments: Any, **options: Any) -> Any:
    """A function that a kernel calls. Triton patches the language for each such call, though it did so for the kernel's own."""
    if function.fn.__module__ not in PATCHED:  # the kernel's own file is patched already, that of Triton's functions is not
        PATCHED.add(function.fn.__module__)
        interpreter._patch_lang(function.fn)
    try:
        return function.rewrite()(*arguments, **options)
    except Exception as error:
        raise interpreter.InterpreterError(repr(error)) from error


init_block, broadcast_impl_value = core.block_type.__init__, semantic.TritonSemantic.broadcast_impl_value


def block(self: core.block_type, element_ty: core.dtype, shape: Any) -> None:
    """Triton checks the shape of every result, and writes it into a name."""
    key = element_ty.name, tuple(shape)
    if key not in BLOCKS:
        init_block(self, element_ty, shape)
        BLOCKS[key] = vars(self).copy()
    vars(self).update(BLOCKS[key], element_ty=element_ty)


@cache
def shape_of(sizes: tuple[int, ...]) -> tuple[core.tuple, core.constexpr]:
    """What a tensor has for its shape, and how many elements that is."""
    return core.tuple([core.constexpr(size) for size in sizes]), core.constexpr(math.prod(sizes))


def tensor(self: core.tensor, handle: Any, type: core.dtype) -> None:
    """Triton makes a constexpr of every size of every tensor."""
    self.handle, self.type, self.dtype = handle, type, type.scalar
    self.shape, self.numel = shape_of(tuple(type.shape.values) if type.is_block() else ())


def broadcast(self: semantic.TritonSemantic, left: core.tensor, right: core.tensor) -> tuple[core.tensor, core.tensor]:
    """Triton copies both operands also where their shapes are the same, since it takes a tuple for unlike a list."""
    same = left.type.is_block() and right.type.is_block() and left.type.shape.values == right.type.shape.values
    return (left, right) if same else broadcast_impl_value(self, left, right)


def hurry() -> None:
    """To be called once, before the first kernel."""
    if not triton.__version__.startswith(WRITTEN_FOR):
        return
    of_scalar = cache(interpreter._get_np_dtype)
    interpreter._get_np_dtype = lambda kind: np.dtype(np.uint64) if kind.scalar.is_ptr() else of_scalar(kind.scalar)
    interpreter.InterpretedFunction.__call__ = call
    core.block_type.__init__, core.tensor.__init__ = block, tensor
    semantic.TritonSemantic.broadcast_impl_value = broadcast
    # Without `debug` Triton makes every sum again in 64 bits, and then asserts nothing of it.
    builder = interpreter.interpreter_builder
    assert not builder.options.debug
    builder.options = replace(builder.options, sanitize_overflow=False)
