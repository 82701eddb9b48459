"""Silero's voice activity detector: confirms that what webrtcvad takes for speech is speech. See card.md."""
