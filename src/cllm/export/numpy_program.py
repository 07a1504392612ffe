"""A language model from end to end in numpy; it stands beside its weights and runs by itself.

    python model.py "Once upon a time" --tokens 100 --temperature 0.8

It needs numpy, and the package `tokenizers` for text. Letters in the comments: T tokens read now,
S tokens remembered, C width, H query heads, K key heads, D width of a head, V vocabulary.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def normalise(x: Array, gain: Array, epsilon: float) -> Array:
    """Give each vector the same length, then weigh its coordinates."""
    mean_square = (x * x).mean(-1, keepdims=True)
    scaled: Array = gain * x / np.sqrt(mean_square + np.float32(epsilon))
    return scaled


def softmax(x: Array) -> Array:
    """Numbers to probabilities along the last axis."""
    powers = np.exp(x - x.max(-1, keepdims=True))
    shares: Array = powers / powers.sum(-1, keepdims=True)
    return shares


def swish(x: Array) -> Array:
    """Let large numbers through and small ones less: x · sigmoid(x), written with tanh."""
    half = np.float32(0.5)
    y: Array = half * x * (1 + np.tanh(half * x))
    return y


class Model:
    """The weights, and what the model remembers of the text it has read."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        with np.load(folder / "weights.npz") as file:
            self.weights: dict[str, Array] = {n: file[n].astype(np.float32) for n in file.files}
        self.layers: int = self.config["num_hidden_layers"]
        self.heads: int = self.config["num_attention_heads"]
        self.key_heads: int = self.config["num_key_value_heads"]
        self.head_width: int = self.config["head_dim"]
        self.context: int = self.config["max_position_embeddings"]
        # Pair j of a head turns by position / base^(2j / D): this is how it knows the order.
        pairs = np.arange(0, self.head_width, 2) / self.head_width
        angles = np.outer(np.arange(self.context), float(self.config["rope_theta"]) ** -pairs)
        self.cos, self.sin = np.cos(angles, dtype=np.float32), np.sin(angles, dtype=np.float32)
        self.forget()

    def forget(self) -> None:
        """Begin a new text."""
        empty = np.zeros((self.key_heads, 0, self.head_width), np.float32)
        self.keys, self.values = [empty] * self.layers, [empty] * self.layers

    def read(self, ids: list[int]) -> Array:
        """Read T more tokens; the scores [T, V] of what follows each of them."""
        table = self.weights["embedding"]
        x = table[ids]  # [T, C]: each token begins as its own vector ...
        for layer in range(self.layers):  # ... to which every layer adds what it finds out.
            x = x + self.attend(layer, self.norm(x, f"{layer}.attention_norm"))
            h = self.norm(x, f"{layer}.feed_forward_norm")
            h = swish(h @ self.weights[f"{layer}.gate"].T) * (h @ self.weights[f"{layer}.up"].T)
            x = x + h @ self.weights[f"{layer}.down"].T
        scores: Array = self.norm(x, "norm") @ self.weights.get("head", table).T
        return scores

    def norm(self, x: Array, name: str) -> Array:
        """Normalise with the gain of that name, if there is one."""
        gain = self.weights.get(name)
        return x if gain is None else normalise(x, gain, self.config["rms_norm_eps"])

    def attend(self, layer: int, x: Array) -> Array:
        """Let each token look at itself and at all before it."""
        T, K, D = len(x), self.key_heads, self.head_width
        q, k, v = (
            (x @ self.weights[f"{layer}.{part}"].T).reshape(T, -1, D).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        start = self.keys[layer].shape[1]
        q = self.turn(self.norm(q, f"{layer}.query_norm"), start)
        k = self.turn(self.norm(k, f"{layer}.key_norm"), start)
        # What was read before need not be computed again.
        self.keys[layer] = k = np.concatenate([self.keys[layer], k], axis=1)  # [K, S, D]
        self.values[layer] = v = np.concatenate([self.values[layer], v], axis=1)
        groups = q.reshape(K, -1, T, D)  # H / K query heads share one key head
        scores = groups @ k[:, None].swapaxes(2, 3) / np.float32(D**0.5)  # [K, H / K, T, S]
        future = np.arange(start + T) > np.arange(start, start + T)[:, None]
        mixed = softmax(np.where(future, np.float32(-np.inf), scores)) @ v[:, None]
        joined = mixed.reshape(self.heads, T, D).swapaxes(0, 1).reshape(T, -1)
        y: Array = joined @ self.weights[f"{layer}.out"].T
        return y

    def turn(self, x: Array, start: int) -> Array:
        """Turn each pair (j, j + D/2) of [heads, T, D] by the angle of its position."""
        end = start + x.shape[1]
        if end > self.context:
            raise ValueError(f"the model sees {self.context} tokens at once, not {end}")
        cos, sin = self.cos[start:end], self.sin[start:end]
        left, right = np.split(x, 2, axis=-1)
        return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)

    def write(
        self, ids: list[int], count: int, temperature: float = 0.0, seed: int = 0
    ) -> list[int]:
        """Choose `count` tokens one by one; temperature 0 always takes the likeliest."""
        random, written = np.random.default_rng(seed), [*ids]
        self.forget()
        scores = self.read(written[-self.context :])[-1]
        for _ in range(count):
            if temperature > 0:
                chances = softmax(scores.astype(np.float64) / temperature)
                written.append(int(random.choice(len(chances), p=chances)))
            else:
                written.append(int(scores.argmax()))
            if self.keys[0].shape[1] < self.context:
                scores = self.read(written[-1:])[-1]
            else:  # The memory is full: go on from the last half of the text.
                self.forget()
                scores = self.read(written[-max(1, self.context // 2) :])[-1]
        return written[len(ids) :]


def main() -> None:
    """Continue the text given on the command line."""
    parser = argparse.ArgumentParser(description="Continue a text.")
    parser.add_argument("prompt", nargs="?", default="")
    parser.add_argument("--tokens", type=int, default=100, help="how many to write")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: always the likeliest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ids", action="store_true", help="the prompt is token ids; print ids")
    given = parser.parse_args()
    folder = Path(__file__).parent
    model = Model(folder)
    end = int(model.config["eos_token_id"])
    if given.ids:
        ids = [int(word) for word in given.prompt.split()] or [end]
        print(*model.write(ids, given.tokens, given.temperature, given.seed))
        return
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a prompt is text
    # A new text begins after the end of another.
    ids = tokenizer.encode(given.prompt, add_special_tokens=False).ids or [end]
    written = model.write(ids, given.tokens, given.temperature, given.seed)
    if end in written:
        written = written[: written.index(end)]
    print(tokenizer.decode(written))


if __name__ == "__main__":
    main()
