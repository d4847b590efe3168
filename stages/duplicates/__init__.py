"""Which samples say the same about the same pictures, and which of them stays."""
