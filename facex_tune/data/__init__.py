"""Faces and their prepared form: importers, copies and groups, the audit, sheets of pictures."""
