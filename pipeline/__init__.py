"""Runs: recipes, steps, folders, records, Ray. The only package that knows where anything lies."""
