"""One room for each model: weights, card, labels and calibration, recipe, evaluation."""
