"""The tokenizer: CLIP's byte-pair encoding, learnt on the world's words until each is one token.

Unknown words still tokenize, byte by byte.
"""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Final

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from miniature.world import COLOURS, NOUNS, PLACES, RARE_TOKENS

MAX_LENGTH: Final = 16
"""Tokens of a prompt, with start and end."""

EXTRA_WORDS: Final = ("a", "an", "the", "photo", "picture", "of", "on", "in", "with", "and", "at")
END: Final = "</w>"


def words() -> list[str]:
    """Every word of the world's captions, and a few more that prompts use."""
    phrases = [*NOUNS, *COLOURS, *PLACES, *RARE_TOKENS, *EXTRA_WORDS]
    return sorted({word for phrase in phrases for word in phrase.split()})


def learn_merges(vocabulary: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges (Sennrich et al., 2016), the most frequent pair first, until no word is split."""
    split = [[*word[:-1], word[-1] + END] for word in vocabulary]
    merges = []
    while pairs := Counter(pair for parts in split for pair in pairwise(parts)):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        split = [_merged(parts, best) for parts in split]
    return merges


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """Writes the tokenizer's files into a folder and returns it loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = learn_merges(words())
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(letter + END for letter in letters), *("".join(pair) for pair in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(dict.fromkeys(tokens))})
    )
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines))
    loaded = CLIPTokenizer.from_pretrained(folder, model_max_length=MAX_LENGTH)
    loaded.save_pretrained(folder)
    return loaded
