"""voice_affect: emotion of a voice, in four classes."""
