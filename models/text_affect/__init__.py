"""text_affect: a chat message in, emotions, 28 GoEmotions labels and a 384-wide embedding out."""
