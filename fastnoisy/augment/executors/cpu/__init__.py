"""The CPU executor: numba, one image after another over the threads, whole programs as data to one compiled function.

`programs` turns built steps into tables, `view` runs them. What is compiled: `keys` (the hash), `choices` (the steps'
draws), `levels`, `maps`, `enhance`, `resample` (pixels), `interpreter` (a program over images).
"""
