"""Text: made readable, judged whether anything of it can be read, and cut into tokens."""
