"""A trained model in use: predict emotions, export the model."""
