"""One adapter per shape of raw data, and the readers that find records and images in files."""
