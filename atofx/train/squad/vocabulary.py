"""Tokenizers of WordPiece vocabularies that are no checkpoint's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertTokenizer

from atofx.errors import ConfigError

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def of_file(path: str, *, lower_case: bool) -> BertTokenizer:
    """The tokenizer of a vocabulary file, one token a line, as BERT's ``vocab.txt``.

    Raises:
        ConfigError: it cannot be read, has a token twice, or lacks one of BERT's special tokens.
    """
    try:
        tokens = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the vocabulary {path!r} (vocab): {error}") from error
    missing = [token for token in _SPECIAL if token not in tokens]
    if missing:
        raise ConfigError(
            f"the vocabulary {path!r} lacks {', '.join(missing)}; it is one token a line, these among them"
        )
    twice = [token for token, count in Counter(tokens).items() if count > 1]
    if twice:
        raise ConfigError(f"the vocabulary {path!r} has {twice[0]!r} twice")
    return _tokenizer(tokens, lower_case=lower_case)


def of_texts(texts: Iterable[str], size: int, *, lower_case: bool) -> BertTokenizer:
    """A vocabulary of at most ``size`` tokens: characters (up to half of it), then the most frequent words.

    A pure function of the texts, so that a resumed run has the vocabulary it began with: the trainer of the tokenizers
    library breaks ties by the order of a hash table, differently in every process.
    """
    normalizer, splitter = BertNormalizer(lowercase=lower_case), BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    alphabet = [piece for letter in _by_frequency(letters) for piece in (letter, f"##{letter}")]
    tokens = dict.fromkeys((*_SPECIAL, *alphabet[: size // 2]))
    room = size - len(tokens)
    tokens.update(dict.fromkeys(islice((word for word in _by_frequency(words) if word not in tokens), room)))
    return _tokenizer(tokens, lower_case=lower_case)


def _by_frequency(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda text: (-counts[text], text))


def _tokenizer(tokens: Iterable[str], *, lower_case: bool) -> BertTokenizer:
    return BertTokenizer(vocab={token: number for number, token in enumerate(tokens)}, do_lower_case=lower_case)
