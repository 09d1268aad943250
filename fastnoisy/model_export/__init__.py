"""A run's network as files that need no fastnoisy: timm, torch or ONNX, its preprocessing and a model card."""
