"""Which labels of a data set are wrong, without a training: frozen features, out-of-sample probabilities, flags."""
