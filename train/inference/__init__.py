"""Answers: conversations in, texts out, one or a million of them."""
