"""The ways of scoring: which faces, which labels, over which classes. Data only; `evidence/evaluate.py` opens them."""

from __future__ import annotations

from dataclasses import dataclass

from facex_tune.emotions import EMOTIONS, N_FER2013
from facex_tune.errors import InputError, nearest

SEVEN = tuple(range(N_FER2013))
EIGHT = tuple(range(len(EMOTIONS)))
CKPLUS_SIX = tuple(EMOTIONS.index(name) for name in ("angry", "disgust", "fear", "happy", "sad", "surprise"))


@dataclass(frozen=True)
class Protocol:
    """One way of scoring a model that knows the first seven emotions.

    Attributes:
        id: its name in studies, logs and reports.
        data: the prepared set it reads.
        splits: the splits of that set.
        classes: faces of other classes are left out; indices into EMOTIONS.
        votes: labels are the annotators' official majority instead of the set's own.
        masked: emotions that no scored face has are taken out of the softmax; else they may be answered, and are wrong.
        clusters: what an interval's bootstrap keeps together, in words.
        doc: one line for the report.
    """

    id: str
    data: str
    splits: tuple[str, ...]
    classes: tuple[int, ...]
    votes: bool = False
    masked: bool = False
    clusters: str = "duplicate groups"
    doc: str = ""


_TABLE = (
    Protocol("fer2013.private", "fer2013", ("private_test",), SEVEN, doc="FER2013 PrivateTest, its own labels"),
    Protocol(
        "fer2013.both",
        "fer2013",
        ("public_test", "private_test"),
        SEVEN,
        doc="FER2013 PublicTest and PrivateTest; only where validation is a holdout of Training",
    ),
    Protocol(
        "ferplus.majority7",
        "ferplus",
        ("private_test",),
        SEVEN,
        votes=True,
        doc="PrivateTest judged by ten annotators, contempt set aside",
    ),
    Protocol(
        "ferplus.majority8",
        "ferplus",
        ("private_test",),
        EIGHT,
        votes=True,
        doc="PrivateTest judged by ten annotators, contempt counts as missed",
    ),
    Protocol(
        "ckplus.6",
        "ckplus",
        ("test",),
        CKPLUS_SIX,
        clusters="subjects",
        doc="CK+, six emotions; 'neutral' may be answered and is wrong",
    ),
    Protocol(
        "ckplus.6.masked",
        "ckplus",
        ("test",),
        CKPLUS_SIX,
        masked=True,
        clusters="subjects",
        doc="CK+, six emotions, 'neutral' taken out of the softmax",
    ),
    Protocol(
        "synthetic.private", "synthetic", ("private_test",), SEVEN, doc="synthetic faces in the wild, noisy labels"
    ),
    Protocol(
        "synthetic.majority7",
        "synthetic",
        ("private_test",),
        SEVEN,
        votes=True,
        doc="the same synthetic faces, judged by ten simulated annotators",
    ),
    Protocol(
        "synthetic.lab.6",
        "synthetic_lab",
        ("test",),
        CKPLUS_SIX,
        clusters="subjects",
        doc="synthetic faces in the laboratory; 'neutral' may be answered and is wrong",
    ),
    Protocol(
        "synthetic.lab.6.masked",
        "synthetic_lab",
        ("test",),
        CKPLUS_SIX,
        masked=True,
        clusters="subjects",
        doc="the same, 'neutral' taken out of the softmax",
    ),
)
PROTOCOLS = {protocol.id: protocol for protocol in _TABLE}
DEFAULTS = {
    "fer2013": ("fer2013.private",),
    "synthetic": ("synthetic.private", "synthetic.majority7", "synthetic.lab.6"),
}


def find(protocol_id: str) -> Protocol:
    """The protocol of that id; ``folder.<name>`` scores any prepared set over the classes shared, and
    ``folder.<name>.masked`` the same without the classes that the set does not have.

    Raises:
        InputError: no such protocol, with the nearest ids.
    """
    if protocol_id.startswith("folder.") and protocol_id.removeprefix("folder."):
        return _of_folder(protocol_id, protocol_id.removeprefix("folder."))
    if protocol_id not in PROTOCOLS:
        known = [*PROTOCOLS, "folder.<name>", "folder.<name>.masked"]
        raise InputError(f"evaluate.protocols: no protocol named {protocol_id!r}; {nearest(protocol_id, known)}")
    return PROTOCOLS[protocol_id]


def _of_folder(protocol_id: str, name: str) -> Protocol:
    """Of any prepared set; no set's name ends in `.masked`, because none holds a dot."""
    masked = name.endswith(".masked") and name != ".masked"
    name = name.removesuffix(".masked") if masked else name
    doc = f"the prepared set {name!r}, over the classes shared"
    doc += ", the others taken out of the softmax" if masked else "; the others may be answered and are wrong"
    return Protocol(protocol_id, name, ("test",), SEVEN, masked=masked, doc=doc)
