"""Whole files and folders, on a disk or behind a URL: written once or not at all; and helper processes."""
