"""Features of a frozen pretrained network, and the linear classifier on them.

| file | what it holds |
|---|---|
| `network.py` | the network: which, from where, its preprocessing |
| `extract.py` | the features of a store's images, kept beside it |
| `out_of_sample.py` | cross-validated probabilities from features |
"""
