"""Check the figures of the model cards by running the evaluations again.

`python -m benchmarks.quality --data DIR` compares each figure in `models/*/figures.json` with what the folder's
`evaluate.py` finds on the data sets now, and fails where one is not within its tolerance, is missing, or misses its
bound without a stated reason.
"""
