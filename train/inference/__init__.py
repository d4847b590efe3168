"""Answers: conversations in, texts out, one or a million of them."""

from train.inference.answerer import Answerer
from train.inference.conversation import Answer, Conversation, Sampling

__all__ = ["Answer", "Answerer", "Conversation", "Sampling"]
