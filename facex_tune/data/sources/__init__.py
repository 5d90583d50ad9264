"""One importer a file; the file's name is the source's name (see `facex_tune.data.prepare`)."""
