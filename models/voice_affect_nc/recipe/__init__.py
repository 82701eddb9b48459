"""The recipe of voice_affect_nc: recordings, folds of actors, and the baseline."""
