"""Files of records, cut into slices and read slice by slice in bounded memory."""
