"""Micro-benchmarks: what a call into one extension module costs. `make micro`; see README.md one level up.

A package, because tests/core has modules of the same names.
"""
