"""Five folds of the questions, the same for everything that is fitted across them."""

import zlib

from artrag.evaluation.predictions import normal_question

FOLDS = 5


def fold_of(question: str) -> int:
    """The fold of a question, 0 to 4; the same for all its spellings."""
    return zlib.crc32(normal_question(question).encode("utf-8", "replace")) % FOLDS
