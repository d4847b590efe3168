"""Images by name: in folders, zips and tars, whole or in numbered parts."""
