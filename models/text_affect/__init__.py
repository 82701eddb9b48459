"""text_affect: emotions, 28 GoEmotions labels and a 384-wide embedding of a chat message."""
