"""Real operators small enough to see through: words are counted, counts summed in windows, totals shown."""
