"""Small encoders of the three families with random weights, as others publish them: see make.py."""
