"""A run written for other tools: an Optuna journal, TensorBoard logs, a table."""
