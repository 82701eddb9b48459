"""The steps of the picture: one file, one class, one step."""
