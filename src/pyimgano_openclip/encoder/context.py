"""Tells of sentences that are longer than a text tower's context, whose end no tokenizer keeps."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..images.notices import callers_level

NAMED = 3  # maximum number of sentences that the warning quotes


class CutSentenceWarning(UserWarning):
    """A sentence is longer than the text tower's context; its end has no effect."""


def is_cut(tokenizer: Any, sentence: str) -> bool:
    """Whether a sentence has more tokens where there is room for more.

    Args:
        tokenizer: Tokenizer of open_clip.
        sentence: Sentence for the tower.
    """
    room = tokenizer.context_length
    return _tokens(tokenizer, sentence, 2 * room) > _tokens(tokenizer, sentence, room)


def _tokens(tokenizer: Any, sentence: str, room: int) -> int:
    """Number of tokens without padding, whose value and place depend on the tokenizer."""
    nothing, padded = tokenizer(["", sentence], context_length=room).tolist()
    ((padding, _),) = Counter(nothing).most_common(1)
    return room - padded.count(padding)


def warn_of_cut(sentences: Sequence[str], tokenizer: Any) -> None:
    """Issue one warning about sentences that were cut, if there are any."""
    if not sentences:
        return
    different = list(dict.fromkeys(sentences))
    more = len(different) - NAMED
    quoted = ", ".join(map(repr, different[:NAMED])) + (f" and {more} more" if more > 0 else "")
    warnings.warn(
        f"The text tower reads {tokenizer.context_length} tokens; what is beyond them in a "
        f"sentence has no effect. Shorten {quoted}.",
        CutSentenceWarning,
        stacklevel=callers_level(),
    )
