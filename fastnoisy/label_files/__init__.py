"""Labels that people bring: one reader of label files and lists, for sources, for noise and for corrections.

| file | what it holds |
|---|---|
| `meaning.py` | the order of class names |
| `words.py` | the words by which people name splits |
"""
