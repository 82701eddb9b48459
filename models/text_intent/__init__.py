"""text_intent: the layers of text_affect in, probabilities of the ten session intents out."""
