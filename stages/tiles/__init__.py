"""(width, height) to a grid of tiles, and the crops themselves."""
