"""The ground floor: the shape of everything on disk. Needs pyarrow and yaml only."""
