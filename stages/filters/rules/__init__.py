"""The rules of quality: what is measured, which limits a recipe may set, and what becomes of what fails."""
