"""The ground floor: the shape of everything on disk. Needs pyarrow and the standard library only."""
