"""One training run in plain torch: no Ray, no paths, nothing printed. `train.run` reads from top to bottom."""
