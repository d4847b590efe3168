"""One file per shape of raw record: a record in, a draft of a sample out."""
