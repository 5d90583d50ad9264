"""A run watched in a terminal: its board, the screen drawn of it, or a line an event where there is no terminal."""
