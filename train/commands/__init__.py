"""The trainer's commands, one file each: `arguments(sub)` declares what it takes, `run(options)` does it."""
