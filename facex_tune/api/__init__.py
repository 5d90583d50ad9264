"""The Python interface: what `import facex_tune` offers. The command line uses it too.

`study` builds a study in code and runs it, `runs` reads a run and does its stages, `models` asks a trained model, and
`ask_tell` searches for those who train themselves. `facex_tune` hands these names on when they are asked for.
"""
