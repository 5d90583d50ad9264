"""A study's search, on recorded learning curves and a simulated clock: no face is trained on."""
