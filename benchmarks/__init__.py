"""Figures this tree produces: each module is `python -m benchmarks.<name>`."""
