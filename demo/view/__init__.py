"""Display the demo in a terminal: what is played, the newest estimate, the ranked list, and what has changed.

`board.py` collects the state from the topics' records; `views.py` chooses between a full-screen view and plain lines;
`summary.py` writes the five lines at the end.
"""
