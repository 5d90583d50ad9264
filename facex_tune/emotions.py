"""What every room means by a face: the emotions that it may show, under one name each, and the shape of its pixels."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from facex_tune.errors import InputError, nearest

EMOTIONS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt")
"""Canonical order. FER2013 has the first seven; CK+ and FER+ also have contempt."""

N_FER2013 = 7
SMALLEST_SIZE, LARGEST_SIZE = 48, 256
GREY, RGB = 1, 3


@dataclass(frozen=True)
class FaceShape:
    """The one description of how a set's faces are kept and what a model takes: squares, in grey or in colour.

    Attributes:
        size: pixels of a side, 48 to 256: networks are known to take 48, whose two thirds progressive training shows.
        channels: 1 for grey, 3 for red, green and blue.

    Raises:
        InputError: another size or number of channels.
    """

    size: int = 48
    channels: int = GREY

    def __post_init__(self) -> None:
        if type(self.size) is not int or not SMALLEST_SIZE <= self.size <= LARGEST_SIZE:
            raise InputError(f"size {self.size!r}: faces have a side of {SMALLEST_SIZE} to {LARGEST_SIZE} whole pixels")
        if type(self.channels) is not int or self.channels not in (GREY, RGB):
            raise InputError(f"channels {self.channels!r}: faces have 1 (grey) or 3 (red, green and blue)")

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> FaceShape:
        """What a manifest, or what is kept beside a model, says under `face`; 48×48 grey where it says nothing, as
        everything did before there were others.

        Raises:
            InputError: what it says is no shape.
        """
        said = about.get("face") or {}
        if not isinstance(said, Mapping) or not said.keys() <= {"size", "channels"}:
            raise InputError(f"face {str(said)[:60]}: a face has a size and channels")
        return cls(**said)

    @classmethod
    def of_array(cls, shape: Sequence[int]) -> FaceShape:
        """That of images N x size x size or N x size x size x 3.

        Raises:
            InputError: no shape of faces.
        """
        if len(shape) not in (3, 4) or shape[1] != shape[2] or (len(shape) == 4 and shape[3] != RGB):
            raise InputError(f"images of {' x '.join(map(str, shape))} are no faces N x size x size (x 3)")
        return cls(int(shape[1]), GREY if len(shape) == 3 else RGB)

    @property
    def is_colour(self) -> bool:
        """Whether it has three channels."""
        return self.channels == RGB

    def images(self, n: int) -> tuple[int, ...]:
        """The shape of an array of n faces, images_NHW or images_NHWC."""
        return (n, self.size, self.size, RGB) if self.is_colour else (n, self.size, self.size)

    def to_data(self) -> dict[str, int]:
        """Gives what `of` reads under `face`."""
        return asdict(self)

    @property
    def options(self) -> str:
        """The options of `data prepare` that ask for it; "" for 48×48 grey."""
        said = [f"--size {self.size}"] if self.size != GREY_48.size else []
        return " ".join([*said, *(["--colour"] if self.is_colour else [])])

    def __str__(self) -> str:
        return f"{self.size}×{self.size} {'colour' if self.is_colour else 'grey'}"


GREY_48 = FaceShape()
"""What FER2013 has, and what is prepared where nothing else is asked for."""

_NAMES: dict[str, tuple[str, ...]] = {
    # English, as sets spell it; slips of the pen as they were met (`suprise` in a FER+ set on Kaggle, `neural` and
    # `surprize` in class folders); AF AN DI FE HA NE SA SU are the codes of KDEF and JAFFE; calm is one of RAVDESS'
    # classes, which has few faces and none to tell it from neutral by. An i may stand without its dot (Turkish).
    # Of each language the words that a public source has; others beside them are forms of these, without one:
    # German: emotionen-lesen-lernen.de/7-basisemotionen-nach-paul-ekman, cowonews.de/wissen/mimik-die-basisemotionen
    # French: detection-du-mensonge.com/dossier-1/les-7-emotions-universelles
    # Spanish: mjdpsicologia.es/story/6372-cuales-son-las-7-expresiones-emocionales
    # Portuguese: lapisusp/lapisusp.github.io `_researches/pt/generating-sketch.md` (raiva, nojo, medo, surpresa, ...)
    # Turkish: ifsakblog.org/insanda-temel-emosyonlar-fotografci-icin-ipuclari-4, m.uludagsozluk.com (evrensel yuz
    # ifadeleri)
    # Chinese: donghui12/FaceEmotion `training_models/README.md`, plattanus/ExpressionRecognition `README.md`
    # Russian: uformat.ru/for-beginners/6-emocii-bazovye-emocii-ili-chto-utail-pol-ekman-gnev-otvrashchenie-strah
    # Indonesian: jazaalaufa/EmotionDetection-CNN `README.md`, T-Fikram/Convolutional-Neural-Network `README.md`
    "angry": ("anger", "an", "angered", "wut", "wütend", "ärger", "zorn", "colère", "en colère", "fâché", "enojado",
              "enojo", "enfadado", "ira", "raiva", "zangado", "irritado", "kizgin", "öfke", "kizginlik", "生气", "愤怒",
              "злость", "гнев", "злой", "marah"),
    "disgust": ("disgusted", "di", "ekel", "angeekelt", "dégoût", "dégoûté", "asco", "asqueado", "nojo",
                "iğrenme", "tiksinti", "tiksinme", "iğrenmiş", "厌恶", "отвращение", "jijik"),
    "fear": ("fearful", "afraid", "scared", "fe", "af", "angst", "furcht", "ängstlich", "peur", "apeuré", "miedo",
             "temor", "asustado", "medo", "assustado", "korku", "korkmuş", "害怕", "恐惧", "страх", "испуг", "takut"),
    "happy": ("happiness", "joy", "joyful", "ha", "freude", "glücklich", "fröhlich", "joie", "heureux",
              "feliz", "felicidad", "alegría", "alegre", "felicidade", "alegria", "mutlu", "mutluluk", "高兴", "快乐",
              "开心", "радость", "счастье", "весёлый", "senang", "bahagia", "gembira"),
    "sad": ("sadness", "sa", "trauer", "traurig", "traurigkeit", "tristesse", "triste", "tristeza", "üzgün", "üzüntü",
            "悲伤", "难过", "伤心", "грусть", "печаль", "грустный", "sedih"),
    "surprise": ("surprised", "suprise", "suprised", "surprize", "surprized", "su", "überraschung", "überrascht",
                 "ueberraschung", "ueberrascht", "surpris", "sorpresa", "sorprendido", "surpresa", "surpreso", "şaşkin",
                 "şaşkinlik", "şaşirma", "惊讶", "吃惊", "惊奇", "удивление", "удивлённый", "terkejut", "kaget"),
    "neutral": ("neutrality", "neural", "normal", "calm", "ne", "neutre", "neutro", "nötr", "doğal",
                "中性", "平静", "нейтральный", "нейтральное", "нейтрально", "netral"),
    "contempt": ("contemptuous", "verachtung", "mépris", "desprecio", "desprezo", "küçümseme", "aşağilama", "轻蔑",
                 "蔑视", "презрение"),
}  # fmt: skip
AMBIGUOUS: dict[str, str] = {
    "disgusto": "disgust in Italian, annoyance in Spanish",
    "desgosto": "sorrow or disgust in Portuguese",
    "susto": "a fright: fear or surprise",
    "schreck": "a fright: fear or surprise",
    "mad": "angry or insane",
    "upset": "angry or sad",
}
"""Words that are taken for an emotion and may mean another."""


def _plain(word: str) -> str:
    """As names are compared: one form of each letter, small, with a space for each run of spaces and underlines."""
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", word).replace("\u0130", "i").lower())
    return " ".join(composed.replace("_", " ").split())


def _bare(word: str) -> str:
    """Without accents, as archives that keep no others spell it."""
    letters = unicodedata.normalize("NFD", _plain(word).replace("\u0131", "i"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


SYNONYMS: dict[str, str] = {_plain(name): emotion for emotion, names in _NAMES.items() for name in names}
SYNONYMS |= {_bare(name): emotion for name, emotion in SYNONYMS.items() if _bare(name) not in EMOTIONS}


def canonical(name: str) -> int:
    """The index into `EMOTIONS` of an emotion's name, in any case, or of a synonym.

    Raises:
        InputError: the name is unknown, with the nearest valid names, or may mean two emotions.
    """
    plain = _plain(name)
    word = SYNONYMS.get(plain, SYNONYMS.get(_bare(name), plain))
    if word in AMBIGUOUS:
        raise InputError(f"emotion {name!r} is ambiguous ({AMBIGUOUS[word]}): write one of {', '.join(EMOTIONS)}")
    if word not in EMOTIONS:
        raise InputError(f"unknown emotion {name!r}: {nearest(word, [*EMOTIONS, *_ENGLISH])}")
    return EMOTIONS.index(word)


_ENGLISH = ("anger", "disgusted", "fearful", "happiness", "sadness", "surprised", "contemptuous")
