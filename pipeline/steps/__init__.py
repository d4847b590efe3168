"""One file per stage: how its step is cut into tasks, how a task is done, what makes the step whole."""
