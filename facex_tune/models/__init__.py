"""The networks that a study can name, one a file: its knobs in `SPACE` and how it is built in `build`."""
