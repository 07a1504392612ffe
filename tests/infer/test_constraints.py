"""Text that must have a form, checked by readers other than the one that makes the masks."""

import json
import re

import numpy as np
import pytest

from cllm.config import GenerateSettings
from cllm.errors import InputError, SettingsError
from cllm.infer.completion import Completion
from cllm.infer.constraints import Grammar
from cllm.infer.slots import Slots

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
LARK = 'start: "The" (" cat" | " mat")+ "."'


@pytest.fixture
def write(by_rule):
    """Text of a model that says anything, in a form."""

    def make(tokenizer, form, text, *, seed=0, max_tokens=400):
        random = np.random.default_rng(seed)
        decoder = by_rule(
            lambda ids: random.normal(0, 2, tokenizer.vocab_size), tokenizer.vocab_size
        )
        grammar = Grammar(tokenizer, form, text, vocab_size=tokenizer.vocab_size, where="--form")
        chosen = GenerateSettings(max_tokens=max_tokens, temperature=1, seed=seed)
        constraint = grammar.begin()
        return Completion(
            Slots(decoder), tokenizer, [tokenizer.eos_id], chosen, constraint=constraint
        ), constraint

    return make


SPELLS_ALL = ("bpe", "unigram", "wordpiece", "bytes")


@pytest.mark.parametrize("kind", SPELLS_ALL)
@pytest.mark.parametrize("seed", range(3))
def test_a_json_schema_is_obeyed(write, tokenizer_of, kind, seed):
    completion, _ = write(tokenizer_of(kind), "json schema", json.dumps(SCHEMA), seed=seed)
    completion.run()
    assert completion.finish in ("form", "end of text")
    value = json.loads(completion.text)
    assert set(value) == {"name", "age"}
    assert isinstance(value["age"], int)
    assert len(value["name"]) <= 8


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        ('{"name":"a","age":1}', True),
        ('{"name": "a", "age": 1}', True),
        ('{\n  "name": "a",\n  "age": 1\n}', True),
        ('{   "name": "a", "age": 1}', False),
        ('{"name": "a",\n\n\n"age": 1}', False),
    ],
)
def test_blanks_between_signs_are_few(tokenizer_of, text, is_taken):
    tokenizer = tokenizer_of("bytes")
    size = tokenizer.vocab_size
    grammar = Grammar(tokenizer, "json schema", json.dumps(SCHEMA), vocab_size=size, where="--form")
    constraint = grammar.begin()
    for token in map(int, tokenizer.encode(text)):
        if not constraint.mask()[token // 32] >> token % 32 & 1:
            assert not is_taken
            return
        constraint.advance(token)
    assert is_taken


def test_a_model_that_likes_blanks_best_ends_all_the_same(tokenizer_of, by_rule):
    tokenizer = tokenizer_of("bytes")
    size = tokenizer.vocab_size
    likes = np.zeros(size)
    likes[[tokenizer.spellings.index(b" "), tokenizer.spellings.index(b"\n")]] = 9.0
    schema = {"type": "object", "properties": {"n": {"const": 1}}, "required": ["n"]}
    schema |= {"additionalProperties": False}
    grammar = Grammar(tokenizer, "json schema", json.dumps(schema), vocab_size=size, where="--form")
    completion = Completion(
        Slots(by_rule(lambda ids: likes, size)),
        tokenizer,
        [tokenizer.eos_id],
        GenerateSettings(max_tokens=400, temperature=0),
        constraint=grammar.begin(),
    )
    completion.run()
    assert json.loads(completion.text) == {"n": 1}


@pytest.mark.parametrize("kind", [*SPELLS_ALL, "characters"])
@pytest.mark.parametrize("pattern", ["[a-c ]{3,9}(on|mat)?", "(The cat[.]\n){1,3}", "héllo 🙂?"])
def test_a_regular_expression_matches_the_whole_text(write, tokenizer_of, kind, pattern):
    completion, _ = write(tokenizer_of(kind), "regex", pattern)
    assert re.fullmatch(pattern, completion.run().text)


@pytest.mark.parametrize("kind", [*SPELLS_ALL, "characters", "words"])
def test_grammars_are_obeyed_in_both_notations(write, tokenizer_of, kind):
    if kind != "words":
        completion, _ = write(tokenizer_of(kind), "grammar", 'root ::= "hello" | "on" | "on " root')
        assert re.fullmatch("(on )*(hello|on)", completion.run().text)
    completion, _ = write(tokenizer_of(kind), "grammar", LARK)
    assert re.fullmatch("The( cat| mat)+[.]", completion.run().text)


def test_a_text_that_is_cut_is_known_to_be(write, tokenizer_of):
    completion, constraint = write(tokenizer_of("bytes"), "regex", "[a-z]{50}", max_tokens=10)
    assert len(completion.run().text) == 10
    assert completion.finish == "length"
    assert not constraint.is_satisfied


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("regex", "[a-"),
        ("json schema", "{nonsense"),
        ("json schema", '{"type": 3}'),
        ("grammar", "start: missing"),
        ("grammar", ""),
    ],
)
def test_a_form_that_can_not_be_understood_is_refused(tokenizer_of, form, text):
    with pytest.raises(SettingsError) as caught:
        Grammar(tokenizer_of("bytes"), form, text, vocab_size=257, where="--this")
    assert caught.value.where == "--this"
    assert "\n" not in caught.value.message


def test_a_vocabulary_that_can_not_begin_it_is_refused(tokenizer_of):
    tokenizer = tokenizer_of("characters")
    with pytest.raises(InputError, match="no token") as caught:
        Grammar(tokenizer, "regex", "[{]", vocab_size=tokenizer.vocab_size, where="--regex")
    assert caught.value.where == "--regex"


def test_a_vocabulary_that_can_not_go_on_is_refused_where_it_stands(write, tokenizer_of):
    completion, _ = write(tokenizer_of("characters"), "regex", "cat%")
    with pytest.raises(InputError, match="goes on"):
        completion.run()
    assert completion.finish == "error"


def test_texts_of_one_form_know_nothing_of_each_other(tokenizer_of):
    grammar = Grammar(tokenizer_of("bytes"), "regex", "ab", vocab_size=257, where="--regex")
    first, second = grammar.begin(), grammar.begin()
    first.advance(ord("a") + 1)
    assert np.flatnonzero(
        np.unpackbits(first.mask().view(np.uint8), bitorder="little")
    ).tolist() == [ord("b") + 1]
    assert np.flatnonzero(
        np.unpackbits(second.mask().view(np.uint8), bitorder="little")
    ).tolist() == [ord("a") + 1]
