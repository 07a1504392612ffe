"""Esperanto word forms with their parts, made from its sixteen rules, for the tests of roots.

Nothing in the segmenter was chosen by this language: it shows what a new one may expect.
"""

from __future__ import annotations

import hashlib

ROOTS = """
labor skrib leg parol kant danc kur salt dorm vek manĝ trink aĉet vend don pren port send ricev
ferm lern instru stud pens sent am esper tim help serv lud gajn perd serĉ trov vojaĝ
long alt bel bon san fort juĝ riĉ jun rapid varm klar pur plen feliĉ liber facil grav nov
dom urb vilaĝ strat arb flor best hund kat ĉeval bird fiŝ akv fajr vent neĝ pluv sun lun stel
patr frat amik onkl knab reĝ popol land mont mar river lag tabl seĝ pord fenestr libr liter
vort frukt pom pan kuk mond temp jar tag nokt hor vetur ŝip kampar muzik bild kolor histori
"""
_ENDINGS = ("o", "o-j", "o-n", "o-j-n", "a", "a-j", "a-n", "a-j-n", "e")
_VERBS = ("i", "as", "is", "os", "us", "u")
_DERIVED = ("", "ist", "in", "ej", "et", "eg", "ul", "ebl", "aĉ", "ad")
_PARTICIPLES = ("ant", "int", "at", "it")
_PREFIXES = ("", "mal", "re", "ek")


def esperanto_words() -> dict[str, list[str]]:
    """Some of the forms of each root, chosen by hash, and the parts of each."""
    found: dict[str, list[str]] = {}
    for root in ROOTS.split():
        forms = [(d, e) for d in (*_DERIVED, *_PARTICIPLES) for e in (*_ENDINGS, *_VERBS)]
        for prefix in _PREFIXES:
            for derived, ending in forms:
                parts = [part for part in (prefix, root, derived, *ending.split("-")) if part]
                word = "".join(parts)
                # As in a text, plain forms are common and derived ones rare.
                rarity = 3 * 6 ** (bool(prefix) + bool(derived))
                if hashlib.sha256(word.encode()).digest()[0] < 256 / rarity:
                    found[word] = parts
    return found
