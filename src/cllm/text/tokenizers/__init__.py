"""Tokenisers: text to token ids and back, six kinds behind one interface."""

from cllm.text.tokenizers.tokenizer import Tokenizer, TokenStreamDecoder
from cllm.text.tokenizers.training import choose_vocab_size, train_tokenizer

__all__ = ["TokenStreamDecoder", "Tokenizer", "choose_vocab_size", "train_tokenizer"]
