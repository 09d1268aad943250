"""Data: sources, conversion, the converted data set on disk, and the order it is visited in."""
