"""The filter that only leaves out: limits, caps and shares, and which samples stay for them."""
