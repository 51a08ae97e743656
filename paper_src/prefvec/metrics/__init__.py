"""Automatic scores of steered text: trait (length), content and coherence."""
