"""What is done to one image file, from its bytes to upright RGB."""
