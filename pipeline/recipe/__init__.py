"""The recipe: what a run is to make (`data`) and how (`run`)."""
