"""text_vad: the embedding of text_affect in, valence, arousal and dominance out (CC BY-SA 4.0, EmoBank)."""
