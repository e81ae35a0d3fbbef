"""How a base model reads the words of a job: what is cut off, what means something, what it does not know."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from darkroom_api.job import PersonalizationJobSpec
from darkroom_api.problems import Problem
from darkroom_api.words import counted
from darkroom_trainer.families.errors import UnusableBaseError
from darkroom_trainer.inputs.base.keys import WORD_EMBEDDINGS, class_name_of
from darkroom_trainer.inputs.base.layout import weight_files
from darkroom_trainer.inputs.base.tensors import read_header, read_rows
from darkroom_trainer.inputs.base_model import BaseModel

END: Final = "</w>"
"""What CLIP's byte-pair encoding writes behind the last piece of a word."""

LARGE_VOCABULARY: Final = 10_000
"""Tokens from which on their order tells how frequent they are: merges are learnt by frequency
(Sennrich et al., arXiv 1508.07909). CLIP has 49,408; its `dog` is number 1,929, its `sks` 48,136."""

FREQUENT_SHARE: Final = 0.5
"""Share of a large vocabulary whose tokens count as words that were seen often."""

STRONG_NORM: Final = 0.85
"""In a small vocabulary: the share of the class noun's embedding norm from which on a token has a meaning.
On the miniature identifiers have 0.7 to 0.83 of it, nouns and colours 0.9 and more."""

MEANINGFUL_LETTERS: Final = 3
"""Shorter pieces mean too much to mean anything."""

NEIGHBOURS: Final = 2
"""Nearest words that a warning names."""


class WordReader:
    """The tokenizer of a base model, and the meanings that its text encoder gives to tokens."""

    def __init__(self, base: BaseModel, new_tokens: Sequence[str] = ()) -> None:
        """Reads the tokenizer (seconds); the embeddings are read when they are asked for.

        `new_tokens` are added to it. Raises UnusableBaseError when it has one of them already.
        """
        from transformers import CLIPTokenizer

        self._base = base
        self._tokenizer: Any = CLIPTokenizer.from_pretrained(
            base.folder / "tokenizer", local_files_only=True
        )
        self._new_tokens = tuple(new_tokens)
        if self._tokenizer.add_tokens(list(new_tokens)) != len(new_tokens):
            raise UnusableBaseError(
                f"its tokenizer has a token {new_tokens[0]} already",
                "choose another spec.subject.identifier",
            )
        self._tokens: dict[int, str] = {
            number: token for token, number in self._tokenizer.get_vocab().items()
        }

    def prompt(self, text: str) -> list[int]:
        """Token ids of a whole prompt, with the begin and end tokens, however long."""
        if self._new_tokens:  # one stands for all of them
            text = text.replace(self._new_tokens[0], " ".join(self._new_tokens))
        return list(self._tokenizer(text, verbose=False).input_ids)

    def word(self, text: str) -> list[int]:
        """Token ids of a word alone."""
        return self.prompt(text)[1:-1]

    def piece(self, number: int) -> str:
        """A token as people read it, without the mark of a word's end."""
        return self._tokens[number].removesuffix(END)

    def is_new(self, number: int) -> bool:
        """Whether a token is one that the job adds."""
        return self._tokens[number] in self._new_tokens

    def knows_words(self) -> bool:
        """Whether there are tokens of more than single letters."""
        return any(
            token.endswith(END) and len(token) > len(END) + 2 for token in self._tokens.values()
        )

    def has_meaning(self, number: int, class_noun: Sequence[int]) -> bool:
        """Whether the model has learnt something of its own for a token; `class_noun` is empty where it is split."""
        piece = self.piece(number)
        if piece in self._new_tokens:
            return False
        if len(piece) < MEANINGFUL_LETTERS or not piece.isalpha():
            return False
        if len(self._tokens) >= LARGE_VOCABULARY:
            return number < FREQUENT_SHARE * len(self._tokens)
        norms = np.linalg.norm(self._embeddings(), axis=1)
        strongest = norms[list(class_noun)].max() if class_noun else norms.max()
        return bool(norms[number] >= STRONG_NORM * strongest)

    def nearest(self, number: int) -> list[str]:
        """The words whose embeddings have the largest cosine with a token's."""
        embeddings = self._embeddings()
        unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        order = np.argsort(-(unit @ unit[number]))
        words = [
            self.piece(int(other))
            for other in order
            if other != number
            and self._tokens.get(int(other), "").endswith(END)
            and self.piece(int(other)).isalpha()
            and len(self.piece(int(other))) >= MEANINGFUL_LETTERS
        ]
        return words[:NEIGHBOURS]

    def _embeddings(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The token embeddings, (tokens, width): that tensor alone is read."""
        for file in weight_files(self._base.folder, "text_encoder").files:
            for name, tensor in read_header(file).items():
                if class_name_of("text_encoder", name) == WORD_EMBEDDINGS:
                    return read_rows(file, tensor)
        raise AssertionError("a text encoder without token embeddings was let through")


def new_token_names(spec: PersonalizationJobSpec) -> list[str]:
    """The tokens that a job adds, as diffusers calls those of one word: `<sks>`, `<sks>_1`, …; none without."""
    tokens, identifier = spec.training.added_tokens, spec.subject.identifier
    if tokens is None:
        return []
    return [identifier, *(f"{identifier}_{number}" for number in range(1, tokens.vectors))]


def count_tokens(base: BaseModel, prompts: Iterable[str]) -> dict[str, int]:
    """Tokens of each prompt, with the begin and end tokens; reads the tokenizer (seconds)."""
    reader = WordReader(base)
    return {prompt: len(reader.prompt(prompt)) for prompt in prompts}


def prompt_warnings(
    base: BaseModel, spec: PersonalizationJobSpec, captions: Sequence[str] = ()
) -> list[Problem]:
    """What is doubtful about the words of a job and the captions of its photos, as its base model reads them.

    Raises UnusableBaseError when its tokenizer knows tokens that its text encoder has no embedding for.
    """
    reader, subject = WordReader(base, new_token_names(spec)), spec.subject
    identifier, noun = reader.word(subject.identifier), reader.word(subject.class_noun)
    unknown = _unknown_words(reader, "spec.subject.classNoun", subject.class_noun)
    tokens = spec.training.added_tokens
    first = (tokens and tokens.initializer) or ""
    prompts = dict.fromkeys(captions, "spec.subject.images") | _prompts(spec)
    _refuse_unknown_tokens(base, reader, prompts)
    cut = (_cut(reader, prompt, prompts[prompt], identifier, base.max_tokens) for prompt in prompts)
    return [
        *_meanings(reader, subject.identifier, identifier, [] if unknown else noun),
        *unknown,
        *_unknown_words(reader, "spec.training.newTokens.initializer", first),
        *filter(None, cut),
    ]


def _prompts(spec: PersonalizationJobSpec) -> dict[str, str]:
    """Each prompt of a job, with the field that it comes from."""
    validation = spec.validation.prompts if spec.validation is not None else ()
    return {
        **{prompt: f"spec.validation.prompts[{at}]" for at, prompt in enumerate(validation)},
        spec.subject.instance_prompt: "spec.subject.identifier",
        spec.subject.class_prompt: "spec.subject.classNoun",
    }


def _refuse_unknown_tokens(base: BaseModel, reader: WordReader, prompts: Iterable[str]) -> None:
    """Where tokens were added for a textual inversion, the embeddings may be those from before."""
    rows = base.embedding_rows
    for prompt in prompts:
        beyond = [
            number
            for number in reader.prompt(prompt)
            if number >= rows and not reader.is_new(number)
        ]
        if beyond:
            raise UnusableBaseError(
                f"its tokenizer makes {reader.piece(beyond[0])} of {prompt[:60]!r} token number"
                f" {beyond[0]}, and its text encoder has embeddings of {rows} tokens",
                "use a tokenizer and a text encoder of one model",
            )


def _cut(
    reader: WordReader, prompt: str, field: str, identifier: list[int], limit: int
) -> Problem | None:
    ids = reader.prompt(prompt)
    if len(ids) <= limit:
        return None
    read = ids[: limit - 1]  # the end token has the last place
    lost = _contains(ids, identifier) and not _contains(read, identifier)
    return Problem(
        field,
        f"the prompt {prompt[:60]!r} has {counted(len(ids), 'token')} and the base model reads the"
        f" first {limit}: the rest is cut off{', the identifier with it' if lost else ''}",
        "shorten it",
    )


def _contains(ids: Sequence[int], part: Sequence[int]) -> bool:
    return any(ids[at : at + len(part)] == part for at in range(len(ids) - len(part) + 1))


def _meanings(
    reader: WordReader, identifier: str, ids: list[int], noun: list[int]
) -> list[Problem]:
    strong = [number for number in ids if reader.has_meaning(number, noun)]
    if not strong:
        return []
    near = ", ".join(reader.nearest(strong[0]))
    read = f"the base model knows the word {identifier}"
    if len(ids) > 1:
        pieces = " + ".join(map(reader.piece, ids))
        known = ", ".join(map(reader.piece, strong))
        read = f"the base model reads {identifier} as {pieces} and knows {known}"
    return [
        Problem(
            "spec.subject.identifier",
            f"{read} (nearest to it: {near}): it has a meaning of its own",
            "choose a rarer one, such as sks",
        )
    ]


def _unknown_words(reader: WordReader, field: str, words: str) -> list[Problem]:
    """Words of a field that the tokenizer splits, where it knows words at all."""
    if not reader.knows_words():
        return []
    return [
        Problem(
            field,
            f"{word} is no word to the base model, it reads {' + '.join(map(reader.piece, ids))}",
            "a common word for it works better",
        )
        for word in re.findall(r"[A-Za-z]+", words)
        if len(ids := reader.word(word)) > 1
    ]
