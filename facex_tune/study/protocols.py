"""The ways of scoring: which faces, which labels, over which classes. Data only; `evaluation` opens them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facex_tune.emotions import EMOTIONS, N_FER2013
from facex_tune.errors import InputError, nearest

SEVEN = tuple(range(N_FER2013))
EIGHT = tuple(range(len(EMOTIONS)))
CKPLUS_SIX = tuple(EMOTIONS.index(name) for name in ("angry", "disgust", "fear", "happy", "sad", "surprise"))


@dataclass(frozen=True)
class Protocol:
    """One way of scoring a model that knows the first seven emotions, or all eight.

    Attributes:
        id: its name in studies, logs and reports.
        data: the prepared set it reads.
        splits: the splits of that set.
        classes: faces of other classes are left out; indices into EMOTIONS.
        shared: so are faces of classes that the model does not know; else they count, as missed.
        votes: labels are the annotators' official majority instead of the set's own.
        only: of the splits' faces those whose name or row (`source_N`) this regular expression finds something in.
        masked: emotions that no scored face has are taken out of the softmax; else they may be answered, and are wrong.
        clusters: what an interval's bootstrap keeps together, in words.
        doc: one line for the report.
    """

    id: str
    data: str
    splits: tuple[str, ...]
    classes: tuple[int, ...]
    shared: bool = False
    votes: bool = False
    only: str = ""
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
        doc="PrivateTest judged by ten annotators, contempt counts, and a model of seven misses it",
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
    Protocol("rafdb.test", "rafdb", ("test",), SEVEN, doc="RAF-DB, the test set of 3,068 faces (Li et al., CVPR 2017)"),
    Protocol(
        "affectnet.val",
        "affectnet",
        ("test",),
        SEVEN,
        doc="AffectNet, the validation set of 3,500 faces, which publications test on; contempt set aside",
    ),
    Protocol(
        "affectnet.val8",
        "affectnet",
        ("test",),
        EIGHT,
        doc="AffectNet, the validation set of 3,999 or 4,000 faces; contempt counts, and a model of seven misses it",
    ),
    Protocol("sfew.val", "sfew", ("test",), SEVEN, doc="SFEW 2.0, the validation set of 436 faces from films"),
    Protocol(
        "caers.test",
        "caers",
        ("test",),
        SEVEN,
        doc="CAER-S, the test set of frames of television series (20,868 with a box in larrylu0426/CAERS-Annotation)",
    ),
    Protocol(
        "expw",
        "expw",
        ("test",),
        SEVEN,
        clusters="photographs",
        doc="ExpW, all 91,793 faces, of which the set publishes no split",
    ),
    Protocol("jaffe", "jaffe", ("test",), SEVEN, clusters="subjects", doc="JAFFE, 213 posed faces of ten women"),
    Protocol(
        "kdef.front",
        "kdef",
        ("test",),
        SEVEN,
        only=r"(?i)(?:AF|AN|DI|HA|NE|SA|SU)S\.\w+$",
        clusters="subjects",
        doc="KDEF, 980 posed faces of 70 people who look straight at the camera",
    ),
    Protocol("kdef", "kdef", ("test",), SEVEN, clusters="subjects", doc="KDEF, 4,900 posed faces, full profiles too"),
    Protocol(
        "ravdess",
        "ravdess",
        ("test",),
        SEVEN,
        clusters="subjects",
        doc="RAVDESS, the frames that were taken of its clips (of speech 1,440: robertjkeck2/EmoNet); calm is neutral",
    ),
    Protocol("ferg", "ferg", ("test",), SEVEN, clusters="characters", doc="FERG-DB, 55,767 pictures of six characters"),
    Protocol(
        "oulu_casia.vl",
        "oulu_casia",
        ("test",),
        CKPLUS_SIX,
        only=r"(?i)(?:^|/)VL[^/]*/Strong/",
        clusters="subjects",
        doc="Oulu-CASIA, strong visible light, 1,440 peak frames; 'neutral' may be answered and is wrong",
    ),
    Protocol(
        "oulu_casia.vl.masked",
        "oulu_casia",
        ("test",),
        CKPLUS_SIX,
        only=r"(?i)(?:^|/)VL[^/]*/Strong/",
        masked=True,
        clusters="subjects",
        doc="the same, 'neutral' taken out of the softmax",
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
    "rafdb": ("rafdb.test",),
    "ferplus": ("ferplus.majority7",),
    "affectnet": ("affectnet.val",),
    "sfew": ("sfew.val",),
    "caers": ("caers.test",),
    "synthetic": ("synthetic.private", "synthetic.majority7", "synthetic.lab.6"),
}
WITH_CONTEMPT = {"ferplus.majority7": "ferplus.majority8", "affectnet.val": "affectnet.val8"}
"""What stands for a default in a study of eight classes."""


def defaults(sets: Sequence[str], classes: int) -> tuple[str, ...]:
    """The protocols of a study that names none: those of each of its sets."""
    chosen = dict.fromkeys(each for data in sets for each in DEFAULTS.get(data, (f"folder.{data}",)))
    return tuple(WITH_CONTEMPT.get(each, each) if classes > N_FER2013 else each for each in chosen)


def find(protocol_id: str) -> Protocol:
    """The protocol of that id; ``folder.<name>`` scores any prepared set over the classes that it shares with the
    model, and ``folder.<name>.masked`` the same without the classes that the set does not have.

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
    return Protocol(protocol_id, name, ("test",), EIGHT, shared=True, masked=masked, doc=doc)
