"""Doing steps: the queue of tasks, their records, who executes them, what a person sees."""
