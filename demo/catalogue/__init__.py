"""The demo's 371 made-up items, with texts, moods and embeddings, as a platform would publish them to be ranked.

`catalogue.jsonl` and `catalogue.npy` hold the items and are read by `items.py`; `python -m demo.catalogue.make` writes
them from the hand-written `parts.py`.
"""
