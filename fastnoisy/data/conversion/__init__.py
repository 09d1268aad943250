"""How a source becomes a store: every image encoded, in order, by many processes, and one writer."""
