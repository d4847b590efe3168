"""What is done to the data: pure functions over Arrow tables. No ray, no torch at import, no runs, no network."""
