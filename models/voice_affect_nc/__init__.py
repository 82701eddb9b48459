"""Emotion of a voice, in eight classes, from RAVDESS and EmoDB: a recipe whose weights are not for commercial use."""
