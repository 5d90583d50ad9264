"""One importer a file; the file's name is the source's name (see `facex_tune.data.prepare`).

An importer is a module of this package, found by its name (one that begins with `_` is shared by others, and none):

    DESCRIPTION = "RAF-DB: 15,339 faces; SOURCE is ..."     # one line, for `data list`
    NEEDS_SOURCE = True                                     # False: drawn
    OPTIONS = ("incomplete", "uncropped")                   # fields of `Asked` that it heeds; others are refused
    PUBLISHED = (Published.of(EMOTIONS, {"train": (...)}),) # counts in each form that proves it; () where none is known
    DOWNLOAD = Download(kaggle="owner/name")                # where `data get` has it from
    NAMED_BY_USER = False                                   # True: `--as` names the set
    ALSO = ("other_source",)                                # prepared with it

    def load(path: Path | None, progress: Progress, asked: Asked = NOTHING) -> Loaded: ...

Only the first two and `load` must be there. `load` opens the source with `tree.open_tree` (folder or zip alike), picks
the pictures with `tree.is_picture` (content, not suffix), finds each one's label, split, subject and sequence, decodes
them with `tree.read_images` (pictures of any size, or `side=48` where only that is right; kept as `asked.face`, where
`OPTIONS` has "size" and "colour"), and returns `Loaded`:

* faces in an order of their own (split, then name), never that of the files on the disk
* `group_N` is the subject where one is known, with `sequence_N` counting its sequences (a face of none its own), else
  `exact_groups` with `sequence_N` -1; near copies are grouped later
* `skipped`: all that could have been a face, with the reason; `require_kept` refuses a class or split that is all
  skipped
* `pictures`: `Read.pictures`; sizes, whole photographs and animations are told and refused from there
* `notes`: what the user should know

`prepare` does what all have in common: it proves the counts, refuses what falls short without `--incomplete` and never
lets that replace a proven set, groups copies, and writes. A set's numbers mean what its documentation says, with the
source named; what would have to be guessed is refused with an `InputError` of one line, and no hint invents a label.
"""
