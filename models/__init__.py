"""The models: one folder each, with weights, card, labels and calibration, recipe and evaluation."""
