"""Turkish word forms made from stems by the rules of vowel harmony, for the tests of roots.

Written from the grammar's rules (plural, possessive, case; tense and person), with the
softening of a stem's last consonant. A fixed part of all forms is taken, as a text would
show some forms of a word and not others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

_VOWELS = "aeıioöuü"
_HARD = "çfhkpsşt"
# A stem whose last consonant softens before a vowel is written with both forms.
NOUNS = """
ev okul çocuk/çocuğ kitap/kitab göz el baş yol köy şehir kapı anne baba kardeş arkadaş gün yıl
gece su deniz dağ ağaç/ağac kuş insan adam kadın masa kalem araba balık/balığ bahçe banka
bardak/bardağ bebek/bebeğ bıçak/bıçağ bina böcek/böceğ bulut çanta çatal çay çiçek/çiçeğ
çorap/çorab defter deli ders dil diş doktor dolap/dolab dost duvar düşman ekmek/ekmeğ elma
erkek/erkeğ eşek/eşeğ et fare fil gazete gemi göl gömlek/gömleğ gözlük/gözlüğ güneş haber hafta
hasta hava hayvan hikaye ışık/ışığ iş kar kart kaşık/kaşığ kaz kedi kız kol konu korku koyun
köpek/köpeğ köprü kulak/kulağ kule kum kural kutu kuzu limon mektup/mektub mevsim meyve
müzik/müziğ nehir oda ordu orman otel oyun öğrenci öğretmen ölüm para park pencere renk/reng
resim rüzgar saat sabah saç sandık/sandığ savaş ses sınıf sokak/sokağ soru sözlük/sözlüğ süt
şarkı tarla taş tabak/tabağ tavuk/tavuğ top toprak/toprağ tren uçak/uçağ uyku ülke yağmur
yaprak/yaprağ yatak/yatağ yemek/yemeğ yıldız yüz zaman
"""
VERBS = """
gel gör al ver bil bak kal yap yaz otur dur bul git/gid aç at bekle çalış çek çık dinle düş
düşün gir gül iç in kaç kapa/kapa kes kır koş konuş kork kur oku öğren öl sat seç sev sil sor
sus sür tut uç uyu vur yürü yüz ye/yi
"""
_PAST_PERSONS = ("", "m", "n", "k", "nIz", "lAr")
_OTHER_PERSONS = ("", "Im", "sIn", "Iz", "sInIz", "lAr")


def turkish_words() -> list[str]:
    """Every bare noun, one in six of the nouns' other forms and one in four of the verbs'."""
    forms = {stem.split("/")[0] for stem in NOUNS.split()}
    for stem in NOUNS.split():
        forms.update(form for form in _noun_forms(stem) if _chosen(form, 6))
    for stem in VERBS.split():
        forms.update(form for form in _verb_forms(stem) if _chosen(form, 4))
    return sorted(forms)


def _chosen(form: str, share: int) -> bool:
    return hashlib.sha256(form.encode()).digest()[0] % share == 0


def _noun_forms(stem: str) -> Iterator[str]:
    for plural in ("", "lAr"):
        for person in ("", "Im", "In", "(s)I", "ImIz", "InIz"):
            for case in ("", "I", "A", "DA", "DAn", "In"):
                yield _join(stem, plural, person, _after(person, case))


def _after(person: str, case: str) -> str:
    """A case after the third person's possessive begins with n."""
    if person != "(s)I":
        return {"I": "(y)I", "A": "(y)A", "In": "(n)In"}.get(case, case)
    return f"n{case}" if case else ""


def _verb_forms(stem: str) -> Iterator[str]:
    for negation in ("", "mA"):
        for person in _PAST_PERSONS:
            yield _join(stem, negation, "DI", person)
        for tense in ("mIş", "(y)AcAk"):
            for person in _OTHER_PERSONS:
                if tense == "mIş" or person in ("", "sIn", "sInIz", "lAr"):
                    yield _join(stem, negation, tense, person)
        yield _join(stem, negation, "mAk")
        yield _join(stem, negation, "(y)An")
    if stem.split("/")[0][-1] not in _VOWELS:
        for person in _OTHER_PERSONS:
            yield _join(stem, "Iyor", person)


def _join(stem: str, *suffixes: str) -> str:
    """Add suffixes: A, I and D stand for what harmony decides, (s) for a buffer consonant."""
    hard, _, soft = stem.partition("/")
    word = hard
    for marked in suffixes:
        buffer, suffix = (marked[1], marked[3:]) if marked.startswith("(") else ("", marked)
        ends_in_vowel = word[-1] in _VOWELS
        if ends_in_vowel and buffer:
            suffix = buffer + suffix
        elif ends_in_vowel and suffix[:1] == "I" and suffix != "Iyor":
            suffix = suffix[1:]
        elif word == hard and soft and suffix[:1] in ("A", "I"):
            word = soft
        for letter in suffix:
            word += _harmonise(word, letter)
    return word


def _harmonise(word: str, letter: str) -> str:
    last = next(char for char in reversed(word) if char in _VOWELS)
    if letter == "A":
        return "a" if last in "aıou" else "e"
    if letter == "I":
        return {"a": "ı", "ı": "ı", "e": "i", "i": "i"}.get(last, "u" if last in "ou" else "ü")
    if letter == "D":
        return "t" if word[-1] in _HARD else "d"
    return letter
