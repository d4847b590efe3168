"""Questions with known answers, and the score."""
