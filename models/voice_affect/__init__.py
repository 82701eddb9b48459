"""Emotion of a voice, in four classes: the model, its recipe and its evaluation."""
