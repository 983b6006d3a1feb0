"""Four numbers in a word, in Triton: what the GPU's crops are summed by. Two instructions (dp2a) add four products."""

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
