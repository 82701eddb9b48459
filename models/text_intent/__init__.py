"""text_intent: probabilities of the ten session intents from the layers of text_affect."""
