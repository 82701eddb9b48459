"""voice_affect_nc: emotion of a voice, in eight classes; a recipe without weights, for non-commercial use."""
