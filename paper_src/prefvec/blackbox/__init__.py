"""Models that are only asked and answer: what of a vector can reach them, and through which door."""
