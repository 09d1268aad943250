"""Many runs: a grid of them, here or on a cluster, and what their numbers say beside one another."""
