"""What is dialogue, what isn't, and that the template gives back the corpus' own turns."""

import inspect
import itertools
import json
import pydoc_data.topics
import random
import subprocess

import pytest

from cllm.errors import InputError
from cllm.text import chat_template
from cllm.text.dialogue import Dialogue, detect_dialogue


def render_chat(template, messages, *, add_generation_prompt):
    return chat_template.render_chat(
        template,
        messages,
        add_generation_prompt=add_generation_prompt,
        eos_token="<|endoftext|>",
    )


SAYINGS = [
    "Good morrow, neighbour, whither away so fast?",
    "I promise you, I scarcely know myself.",
    "Hear you the news abroad?",
    "Ay, that the king is dead.",
    "Bad news, by'r lady; seldom comes the better.",
    "Give you good morrow, sir!",
    "Doth this news hold of good King Edward's death?",
    "It does.",
    "Then, masters, look to see a troublous world.",
    "No, no; by God's good grace his son shall reign.",
    "Woe to the land that's govern'd by a child!",
]


def speeches(count, seed=0):
    rng = random.Random(seed)
    return [rng.choice(SAYINGS) for _ in range(count)]


def cast(names, count, seed=0):
    """Speakers who never follow themselves and keep no fixed order."""
    rng, spoken = random.Random(seed), []
    for _ in range(count):
        spoken.append(rng.choice([name for name in names if name not in spoken[-1:]]))
    return spoken


def turns_of(names, count, *, header, glue, gap):
    pairs = zip(cast(names, count), speeches(count), strict=True)
    return "".join(f"{header(name)}{glue}{saying}{gap}" for name, saying in pairs)


PLAY = turns_of(
    ["ROMEO", "JULIET", "First Citizen"],
    60,
    header=lambda name: f"{name}:",
    glue="\n",
    gap="\nThe more's the pity.\n\n",
)
CHAT = turns_of(["Ann", "Bob Lee"], 40, header=lambda name: f"{name}:", glue=" ", gap="\n")
QUESTIONS = "".join(f"Q: What is {a} and {b}?\nA: It is {a + b}.\n\n" for a, b in
                    itertools.product(range(9), range(9)))  # fmt: skip
LONG_QUESTIONS = QUESTIONS.replace("Q:", "Question:").replace("A:", "Answer:")
IRC = turns_of(
    ["bob", "al_ice", "zed|away"], 50, header=lambda name: f"[12:31] <{name}>", glue=" ", gap="\n"
)
PHONE = turns_of(
    ["Bob", "Åsa Öberg"],
    50,
    header=lambda name: f"12/31/24, 9:41 PM - {name}:",
    glue=" ",
    gap="\n",
)
ASSISTANT = "".join(
    f"User: {q}\nAssistant: {a}\n{a}\n\n"
    for q, a in zip(speeches(30, 1), speeches(30, 2), strict=True)
)
MARKED = "".join(
    f"### User:\n{q}\n\n### Assistant:\n{a}\n\n{a}\n\n"
    for q, a in zip(speeches(30, 1), speeches(30, 2), strict=True)
)
BOLD = turns_of(["Ann", "Bob"], 40, header=lambda name: f"**{name}:**", glue=" ", gap="\n\n")
CAPITALS = turns_of(["HAMLET", "GHOST"], 40, header=lambda name: f"{name}.", glue="\n", gap="\n\n")
CHINESE = "".join(f"{name}：你好，今天天气很好。\n" for name in cast(["田中", "王五"], 30))

DIALOGUES = {
    "play": (PLAY, "speakers"),
    "chat": (CHAT, "speakers"),
    "questions": (QUESTIONS, "question-answer"),
    "long questions": (LONG_QUESTIONS, "question-answer"),
    "irc": (IRC, "chat log"),
    "phone": (PHONE, "chat log"),
    "assistant": (ASSISTANT, "speakers"),
    "marked": (MARKED, "speakers"),
    "bold": (BOLD, "speakers"),
    "capitals": (CAPITALS, "speakers"),
    "chinese": (CHINESE, "speakers"),
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue_is_recognised(name):
    text, kind = DIALOGUES[name]
    found = detect_dialogue([text])
    assert found is not None
    assert found.kind == kind
    assert Dialogue.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    ("text", "user", "assistant"),
    [
        (QUESTIONS, "Q", "A"),
        (LONG_QUESTIONS, "Question", "Answer"),
        (ASSISTANT, "User", "Assistant"),
        (MARKED, "User", "Assistant"),
    ],
)
def test_roles_say_who_is_who(text, user, assistant):
    found = detect_dialogue([text])
    assert (found.user, found.assistant) == (user, assistant)


def test_of_a_play_the_two_busiest_speak():
    names = ["NURSE", "JULIET", "ROMEO", "JULIET", "ROMEO", "JULIET"] * 8
    text = "".join(
        f"{name}:\n{saying}\n\n" for name, saying in zip(names, speeches(48), strict=True)
    )
    found = detect_dialogue([text])
    assert (found.user, found.assistant) == ("ROMEO", "JULIET")


EXPECTED = {
    "questions": f"Q: {SAYINGS[0]}\nA: {SAYINGS[1]}\n\n",
    "assistant": f"User: {SAYINGS[0]}\nAssistant: {SAYINGS[1]}\n\n",
    "marked": f"### User:\n{SAYINGS[0]}\n\n### Assistant:\n{SAYINGS[1]}\n\n",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_template_writes_turns_as_the_corpus_does(name):
    found = detect_dialogue([DIALOGUES[name][0]])
    messages = [
        {"role": "user", "content": SAYINGS[0]},
        {"role": "assistant", "content": SAYINGS[1]},
    ]
    text = render_chat(found.chat_template, messages, add_generation_prompt=False)
    assert text == EXPECTED[name]


@pytest.mark.parametrize("name", DIALOGUES)
def test_rendered_turns_are_recognised_as_the_same_dialogue(name):
    found = detect_dialogue([DIALOGUES[name][0]])
    messages = [
        {"role": "user" if turn % 2 == 0 else "assistant", "content": saying}
        for turn, saying in enumerate(SAYINGS)
    ]
    text = render_chat(found.chat_template, messages, add_generation_prompt=False)
    again = detect_dialogue([text])
    assert again is not None
    assert {again.user, again.assistant} == {found.user, found.assistant}


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_reply_continues_the_prompt_and_a_stop_string_ends_it(name):
    found = detect_dialogue([DIALOGUES[name][0]])
    asked = [{"role": "user", "content": "Hear you the news?"}]
    answered = [*asked, {"role": "assistant", "content": "It does."}, *asked]
    prompt = render_chat(found.chat_template, asked, add_generation_prompt=True)
    whole = render_chat(found.chat_template, answered, add_generation_prompt=False)
    assert whole.startswith(prompt)
    assert not prompt.endswith(" ")
    reply = whole[len(prompt) :]
    end = min(reply.find(stop) for stop in found.stop if stop in reply)
    assert reply[:end].strip() == "It does."


@pytest.mark.parametrize("name", DIALOGUES)
def test_transformers_renders_the_same(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    found = detect_dialogue([DIALOGUES[name][0]])
    peer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()), eos_token="<|endoftext|>"
    )
    messages = [
        {"role": "system", "content": 'A "quoted" \\ {{ brace }}'},
        {"role": "user", "content": "  Hello 🙂\n"},
        {"role": "assistant", "content": "Ay.\nAy, indeed."},
        {"role": "user", "content": "So?"},
    ]
    for prompted in (True, False):
        expected = peer.apply_chat_template(
            messages,
            chat_template=found.chat_template,
            add_generation_prompt=prompted,
            tokenize=False,
        )
        ours = render_chat(found.chat_template, messages, add_generation_prompt=prompted)
        assert ours == expected


PROSE = " ".join(SAYINGS * 20)
LETTERS = "\n\n".join(
    f"My dear {name}: I write to you from the sea.\nNote: the weather is fine.\n" + PROSE[:400]
    for name in ("Ann", "Bob", "Carl", "Dora", "Emil", "Fay")
)
YAML = "\n".join(
    f"name: item {i}\nversion: {i}.0\ndescription: A thing of some use to many people.\ntags:\n"
    "  - one\n  - two\nResources:\n  Kind: Deployment\nMetadata:\n  Name: web"
    for i in range(40)
)
RECORDS = "\n".join(
    f"Name: Person number {i}\nEmail: p{i}@example.org\nStreet: {i} Long and winding road.\n"
    for i in range(60)
)
UNUSUAL_RECORDS = "\n".join(
    f"Pigment: Ultramarine number {i}.\nBinder: Oil of the {i}th pressing.\nSurface: Linen "
    "canvas, primed.\n"
    for i in range(60)
)
RECIPES = "\n".join(
    f"Ingredients: Take {i} eggs, some flour and a little milk.\nMethod: Beat it and bake it.\n"
    for i in range(60)
)
LOG = "\n".join(
    f"{level}: The server did something of interest, number {i}."
    for i, level in enumerate(random.Random(3).choices(["INFO", "WARNING", "ERROR"], k=200))
)
STAMPED_LOG = "\n".join(
    f"2024-03-01 12:{i % 60:02}:00 {level}: connection {i} was closed by the peer"
    for i, level in enumerate(random.Random(3).choices(["INFO", "WARN", "ERROR", "DEBUG"], k=200))
)
GLOSSARY = "\n".join(f"Term{i}: The {i}th thing that one needs to know here." for i in range(99))
HTML = "<p> One paragraph of text. </p>\n<li> An item. </li>\n" * 50
SCREENPLAY_NOTES = "TODO: write this.\nFIXME: and that, some day.\n" * 40

NOT_DIALOGUE = {
    "prose": PROSE,
    "letters": LETTERS,
    "yaml": YAML,
    "records": RECORDS,
    "unusual records": UNUSUAL_RECORDS,
    "recipes": RECIPES,
    "log": LOG,
    "stamped log": STAMPED_LOG,
    "glossary": GLOSSARY,
    "html": HTML,
    "notes": SCREENPLAY_NOTES,
    "documentation": "\n\n".join(pydoc_data.topics.topics.values()),
    "code": "\n".join(inspect.getsource(module) for module in (inspect, json, subprocess, random)),
    "empty": "",
}


@pytest.mark.parametrize("name", NOT_DIALOGUE)
def test_other_text_is_not_taken_for_dialogue(name):
    assert detect_dialogue([NOT_DIALOGUE[name]]) is None


def test_each_module_of_python_is_no_dialogue():
    from pathlib import Path

    for path in sorted(Path(json.__file__).parent.parent.glob("*.py")):
        assert detect_dialogue([path.read_text(encoding="utf-8", errors="replace")]) is None, path


def test_a_few_dialogues_among_prose_do_not_count():
    assert detect_dialogue([CHAT, PROSE * 3, PROSE * 3]) is None
    assert detect_dialogue([]) is None


def test_a_broken_template_is_said():
    with pytest.raises(InputError, match="chat template"):
        render_chat("{% for %}", [], add_generation_prompt=True)
    with pytest.raises(InputError, match="no system role"):
        render_chat("{{ raise_exception('no system role') }}", [], add_generation_prompt=True)


def test_a_template_can_not_reach_out_of_its_sandbox():
    with pytest.raises(InputError):
        render_chat(
            "{{ messages.__class__.__mro__[1].__subclasses__() }}",
            [],
            add_generation_prompt=False,
        )
