"""The run folder: its log of events, the lease that keeps a second writer out, and what the log adds up to.

`store` creates, opens and writes a run; `history` folds its events into trials and models; `overview` and `frames` tell
what came of them.
"""
