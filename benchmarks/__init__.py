"""Benchmarks: programs that measure, and their results."""
