"""The recipe of text_intent: lines and data sets, discriminant directions, scaling, and the baseline."""
