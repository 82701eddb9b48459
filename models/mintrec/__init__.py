"""mintrec: a recipe for twenty affective intents of talk on the frozen text_affect encoder; no weights are shipped."""
