"""Numbers of a word, in Triton: what the GPU's crops are summed by. An instruction (dp2a) adds two products, another packs."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, import-untyped, untyped-decorator"
# The arguments of a Triton kernel have types of its own language, and Triton carries no annotations.

import os

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")
"""Triton's interpreter knows no instructions of a GPU, and takes the other way to the same numbers."""


@triton.jit
def joined(low, high, shift):
    """The 32 bits from `shift` on of two words that follow each other."""
    return (((high.to(tl.uint64) << 32) | low.to(tl.uint64)) >> shift.to(tl.uint64)).to(tl.uint32)


@triton.jit
def picked(low, high, places: tl.constexpr):
    """Four of the eight bytes of two words; places: of each, from the lowest on, in as many hexadecimal digits."""
    if INTERPRETED:
        both, word = (high.to(tl.uint64) << 32) | low.to(tl.uint64), tl.zeros(low.shape, tl.uint64)
        for place in tl.static_range(4):
            word |= ((both >> (8 * ((places >> (4 * place)) & 7))) & 255) << (8 * place)
        return word.to(tl.uint32)
    return tl.inline_asm_elementwise(
        "prmt.b32 $0, $1, $2, $3;", "=r,r,r,r", [low, high, places], dtype=tl.uint32, is_pure=True, pack=1
    )


@triton.jit
def add_products(total, fours, levels):
    """total (int32) + the sum of four products: of int16 numbers in a word of 64 bits, and of uint8 numbers in one of 32."""
    if INTERPRETED:
        for place in tl.static_range(4):
            number = (fours << (48 - 16 * place)) >> 48
            total += number.to(tl.int32) * ((levels >> (8 * place)) & 255).to(tl.int32)
        return total
    return tl.inline_asm_elementwise(
        """{
        .reg .b32 low, high, half;
        mov.b64 {low, high}, $2;
        dp2a.lo.s32.u32 half, low, $3, $1;
        dp2a.hi.s32.u32 $0, high, $3, half;
        }""",
        "=r,r,l,r", [total, fours, levels], dtype=tl.int32, is_pure=True, pack=1,
    )  # fmt: skip


@triton.jit
def add_pair(total, pair, levels, HIGH: tl.constexpr):
    """total (int32) + the sum of two products: of int16 numbers in a word, and of uint8 numbers in a half of a word."""
    if INTERPRETED:
        low, high = (pair << 16).to(tl.int32) >> 16, pair.to(tl.int32) >> 16
        levels = levels >> (16 * HIGH)
        return total + low * (levels & 255).to(tl.int32) + high * (levels >> 8 & 255).to(tl.int32)
    return tl.inline_asm_elementwise(
        "dp2a.hi.s32.u32 $0, $2, $3, $1;" if HIGH else "dp2a.lo.s32.u32 $0, $2, $3, $1;",
        "=r,r,r,r", [total, pair, levels], dtype=tl.int32, is_pure=True, pack=1,
    )  # fmt: skip


@triton.jit
def level(number):
    """int32: 0 for what is below, and 255 for what is above."""
    if INTERPRETED:
        return tl.minimum(tl.maximum(number, 0), 255)
    return tl.inline_asm_elementwise(
        "cvt.pack.sat.u8.s32.b32 $0, 0, $1, 0;", "=r,r", [number], dtype=tl.int32, is_pure=True, pack=1
    )


@triton.jit
def packed(first, second, third, fourth):
    """`level` of four, in a word, the first in the lowest byte."""
    if INTERPRETED:
        low, high = level(first) | level(second) << 8, level(third) | level(fourth) << 8
        return (low | high << 16).to(tl.uint32)
    return tl.inline_asm_elementwise(
        """{
        .reg .b32 high;
        cvt.pack.sat.u8.s32.b32 high, $4, $3, 0;
        cvt.pack.sat.u8.s32.b32 $0, $2, $1, high;
        }""",
        "=r,r,r,r,r", [first, second, third, fourth], dtype=tl.uint32, is_pure=True, pack=1,
    )  # fmt: skip
