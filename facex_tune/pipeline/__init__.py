"""The stages of a run in their order, and what is checked before them."""
