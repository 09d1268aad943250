"""Labels that people bring: one reader of label files and lists, for sources, for noise and for corrections.

| file | what it holds |
|---|---|
| `read.py` | the one reader of tables: CSV, JSON, Parquet, arrays |
| `columns.py` | which column is what: one list of names, one precedence |
| `meaning.py` | which classes there are, their order, and which of them a text names |
| `corrections.py` | what a file says of which rows: labels changed, rows dropped, and the line that counts them |
| `words.py` | the words by which people name splits |
| `lines.py` | lines of list files |
| `torch_files.py` | .pt files, read without trust |
"""
