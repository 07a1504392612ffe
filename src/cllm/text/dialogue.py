"""Recognises text that is a dialogue, and how a model of it can be talked with.

Conservative: what is taken for dialogue by mistake gives every chat a strange form, while
dialogue that isn't recognised can still be continued as text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from cllm.text.turns import Turn, TurnsFound, find_turns

DialogueKind = Literal["speakers", "chat log", "question-answer"]

_LOOK_AT_CHARACTERS, _STRETCH_CHARACTERS, _MOST_STRETCHES = 200_000, 25_000, 8
_NUM_NAMED_STOPS = 8
_USER_ROLES = ("user", "human", "customer", "client", "prompter", "question", "q")
_ASSISTANT_ROLES = ("assistant", "ai", "bot", "chatbot", "agent", "gpt", "answer", "a")
_ENDS_OF_SENTENCES = (".", "!", "?", "…", '"', "”", "—", "。", "！", "？")
_QUESTION_ROLES = {"question", "q"}
# Words before a colon that are keys of records, log levels or parts of documents.
_KEY_WORDS = """
abstract address alias args arguments article attributes author authors back body budget
caption category caution chapter city class code color comment comments company contents
copyright country critical cc bcc creator credit currency database date day debug default
definition department description difficulty directions due edition editor email english error
errors example examples expected fatal figure file filename fixme format french from front
genre german goal group hack header headers height hint host http https id important info
ingredients input instructions isbn issue item key keywords label lang language level license
link location log maintainer material message metadata method methods mode model month name
notes note notice number objective option options order output outputs owner package page
parameters params part path phone place postcode price priority problem procedure product
project publisher purpose quantity raises rating ref reference references release remark
result results returns review role score section see serves severity size solution source
spanish state status step street subject summary synopsis table tag tags target task term
theorem proof lemma time timestamp tip title to todo topic total trace translation type unit
units update url usage user-agent accept value values version volume warn warning website
weight width year yield yields zip
"""
_KEYS = frozenset(_KEY_WORDS.split())


@dataclass(frozen=True)
class Dialogue:
    """The turn format of a corpus.

    `user` and `assistant` are the speakers whom the person and the model play;
    `chat_template` is Jinja over `messages` and `add_generation_prompt`; a reply ends at the
    first of the strings in `stop`.
    """

    kind: DialogueKind
    user: str
    assistant: str
    chat_template: str
    stop: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, as kept on disk."""
        return asdict(self) | {"stop": list(self.stop)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Dialogue:
        """The inverse of `to_json`."""
        return cls(**(value | {"stop": tuple(value["stop"])}))


def detect_dialogue(texts: Iterable[str]) -> Dialogue | None:
    """The dialogue format of `texts`, or None when they aren't (nearly all) dialogue.

    Looks at no more than 200,000 characters.
    """
    sample = _take_sample(texts)
    for found in find_turns(sample):
        if _is_dialogue(found):
            return _describe(found)
    return None


def _take_sample(texts: Iterable[str]) -> list[str]:
    """Stretches of the texts, spread evenly over each and cut at line ends."""
    sample: list[str] = []
    left = _LOOK_AT_CHARACTERS
    for text in texts:
        num_stretches = min(-(-len(text) // _STRETCH_CHARACTERS), _MOST_STRETCHES)
        for number in range(num_stretches):
            start = number * len(text) // num_stretches
            begin = 0 if start == 0 else text.find("\n", start) + 1
            stretch = text[begin : begin + min(left, _STRETCH_CHARACTERS)]
            if begin + len(stretch) < len(text):
                stretch = stretch[: stretch.rfind("\n") + 1]
            sample.append(stretch)
            left -= len(stretch)
        if left <= 0:
            break
    return sample


def _is_dialogue(found: TurnsFound) -> bool:
    names = found.names
    num_turns = len(found.turns)
    frequent = {name for name, count in names.items() if count >= 3}
    roles = _roles(frequent)
    if num_turns < 6 or len(frequent) < 2 or found.share < 0.6:
        return False
    if sum(names[name] for name in frequent) < 0.7 * num_turns:
        return False
    keys = [name for name in names if name.lower() in _KEYS or not _is_name(name, found)]
    if roles is None and sum(names[name] for name in keys) > 0.2 * num_turns:
        return False
    # The longest-winded plays have a header in twenty lines; logs have one in each.
    if found.header_density < (0.04 if found.style.own_line else 0.2):
        return False
    return _takes_turns(found.turns, roles) and _reads_like_speech(found, roles)


def _is_name(name: str, found: TurnsFound) -> bool:
    return found.style.is_log or (not name[0].islower() and len(name.split()) <= 4)


def _roles(names: Iterable[str]) -> tuple[str, str] | None:
    """The user and the assistant, where the names themselves say who is who."""
    by_lower = {name.lower(): name for name in names}
    user = next((by_lower[role] for role in _USER_ROLES if role in by_lower), None)
    assistant = next((by_lower[role] for role in _ASSISTANT_ROLES if role in by_lower), None)
    return (user, assistant) if user and assistant else None


def _takes_turns(turns: Sequence[Turn], roles: tuple[str, str] | None) -> bool:
    """Speakers change, but (with more than two) not in a fixed round as the keys of records."""
    followers: dict[str, Counter[str]] = {}
    for turn, following in pairwise(turns):
        if turn.text_index == following.text_index:
            followers.setdefault(turn.name, Counter())[following.name] += 1
    total = sum(sum(counts.values()) for counts in followers.values())
    changes = total - sum(counts[name] for name, counts in followers.items())
    if total == 0:
        return roles is not None
    if changes < 0.5 * total:
        return False
    if len(followers) == 2 or roles is not None:
        return True
    likeliest = sum(max(counts.values()) for counts in followers.values())
    return likeliest < 0.9 * total


def _reads_like_speech(found: TurnsFound, roles: tuple[str, str] | None) -> bool:
    turns = found.turns
    indented = sum(1 for turn in turns if turn.content[:1] in (" ", "\t"))
    closing_tags = sum(1 for turn in turns if "</" in turn.content)
    if indented > 0.1 * len(turns) or closing_tags > 0.5 * len(turns):
        return False
    if found.style.is_log or roles is not None:
        return True
    words = [len(turn.content.split()) for turn in turns]
    spoken = sum(
        1
        for turn, count in zip(turns, words, strict=True)
        if count >= 4
        or turn.content.endswith((".", "!", "?", "…", '"', "”", "—", "。", "！", "？"))
    )
    return spoken >= 0.6 * len(turns)


def _describe(found: TurnsFound) -> Dialogue:
    names = found.names
    ranked = [name for name, _ in names.most_common()]
    roles = _roles(name for name in ranked if names[name] >= 3)
    user, assistant = roles or (ranked[1], ranked[0])
    kind: DialogueKind = "speakers"
    if found.style.is_log:
        kind = "chat log"
    elif user.lower() in _QUESTION_ROLES:
        kind = "question-answer"
    form = _Form(found)
    others = [name for name in ranked if name not in (user, assistant)]
    system = next((name for name in others if name.lower() == "system"), None)
    return Dialogue(
        kind=kind,
        user=user,
        assistant=assistant,
        chat_template=form.template(user, assistant, system),
        stop=form.stop(assistant, [user, assistant, *others][:_NUM_NAMED_STOPS]),
    )


class _Form:
    """The letters around names and speeches, as most turns have them."""

    def __init__(self, found: TurnsFound) -> None:
        self._found = found
        # A log's time changes from line to line: one that occurs stands for all.
        self._pre = Counter(turn.pre for turn in found.turns).most_common(1)[0][0]
        glue = Counter(turn.glue for turn in found.turns).most_common(1)[0][0]
        self._glue = "\n" if found.style.own_line else glue

    def header(self, name: str) -> str:
        """What stands before a speech; no blank at its end, since that belongs to the word."""
        return f"{self._pre}{name}{self._found.style.post}" + self._glue.rstrip(" \t")

    def gap(self, name: str) -> str:
        """The line ends after a speech of `name`."""
        gaps = [turn.gap for turn in self._found.turns if turn.name == name and turn.gap]
        usual = Counter(gaps).most_common(1)
        return "\n" * (usual[0][0] if usual else 1)

    def template(self, user: str, assistant: str, system: str | None) -> str:
        """The turns as a Jinja template for transformers' `apply_chat_template`."""

        def turn(name: str) -> str:
            before = _literal(self.header(name) + self._glue[len(self._glue.rstrip(" \t")) :])
            return f"{{{{ {before} + message['content'] | trim + {_literal(self.gap(name))} }}}}"

        told = turn(system) if system else "{{ message['content'] | trim + \"\\n\\n\" }}"
        return (
            "{% for message in messages %}"
            f"{{% if message['role'] == 'assistant' %}}{turn(assistant)}"
            f"{{% elif message['role'] == 'system' %}}{told}"
            f"{{% else %}}{turn(user)}{{% endif %}}"
            "{% endfor %}"
            f"{{% if add_generation_prompt %}}{{{{ {_literal(self.header(assistant))} }}}}"
            "{% endif %}"
        )

    def stop(self, assistant: str, names: Sequence[str]) -> tuple[str, ...]:
        """The shortest line ends that no speech contains, else the next speaker's header."""
        contents = [turn.content for turn in self._found.turns]
        few = 0.05 * len(contents)
        if sum("\n" in content for content in contents) <= few:
            return ("\n",)
        if len(self.gap(assistant)) > 1 and sum("\n\n" in content for content in contents) <= few:
            return ("\n\n",)
        if self._found.style.is_log:
            opening = self._pre[:1]
            return ("\n",) if opening.isdigit() else ("\n" + opening,)
        return tuple("\n" + self.header(name) for name in names)


def _literal(text: str) -> str:
    """`text` as a string of Jinja's expression language."""
    return json.dumps(text, ensure_ascii=False)
