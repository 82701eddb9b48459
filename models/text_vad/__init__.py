"""text_vad: valence, arousal and dominance of a text from text_affect's layers (CC BY-SA 4.0, EmoBank)."""
