"""Logits as sums over morphemes, word by word, and the table that they fold into."""

import numpy as np
import torch

from cllm.model.folding import fold
from cllm.model.mechanisms.additive_head import AdditiveHead


def test_a_words_logit_is_the_sum_of_its_morphemes(models):
    lexicon = models.lexicon
    for items in (["additive_head.rank=0"], ["additive_head.rank=3"]):
        spec = models.spec(items)
        model = models.stirred(spec)
        weights = model.weights()
        part, p = spec.mechanisms[0], model.mechanisms.tensors(spec.mechanisms[0])
        h = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
        logits = part.head(h, p).detach().numpy()
        morphemes = weights["mechanisms.additive_head.morphemes"]
        assert morphemes.shape == (25, 16)
        for word in range(64):
            vector = morphemes[lexicon.roots[word]].copy()
            for affix in lexicon.affixes[word]:
                if affix:
                    vector += morphemes[20 + affix - 1]
            if part.rank:
                mix, own = (weights[f"mechanisms.additive_head.{n}"] for n in ("mix", "own"))
                vector += own[word] @ mix
            assert np.allclose(logits[..., word], h.numpy() @ vector, atol=1e-4)


def test_tokens_of_the_same_morphemes_are_told_apart_by_what_is_their_own(models):
    lexicon = models.lexicon
    keys = [(r, *sorted(a)) for r, a in zip(lexicon.roots, lexicon.affixes.tolist(), strict=True)]
    twins = [w for w in range(64) if keys.index(keys[w]) < w]
    assert twins
    word, other = twins[0], keys.index(keys[twins[0]])
    for rank, is_same in ((0, True), (4, False)):
        model = models.stirred(models.spec([f"additive_head.rank={rank}"]))
        logits = model(models.ids()).detach()
        assert torch.allclose(logits[..., word], logits[..., other], atol=1e-5) == is_same


def test_the_model_is_untied_and_the_head_small(models):
    for shape in ("grouped", "untied"):
        spec = models.spec(["additive_head.rank=0"], shape)
        assert not spec.tied
        assert "embedding.weight" in spec.parameters()
        assert "head.weight" not in spec.parameters()
    saved = models.spec((), "untied").num_parameters - spec.num_parameters
    assert saved == (64 - 25) * 16


def test_it_folds_into_a_head_of_its_own(models):
    spec = models.spec(["additive_head"])
    model = models.stirred(spec)
    folded, weights = fold(spec, model.weights(), models.lexicon)
    assert (folded.tied, folded.mechanisms) == (False, ())
    assert weights["head.weight"].shape == (64, 16)
    ids = models.ids()
    assert torch.allclose(models.built(folded, weights)(ids), model(ids), atol=1e-4)


def test_the_control_deals_out_as_many_morphemes(models):
    real, control = (
        AdditiveHead(num_roots=20, num_affixes=5, placebo=p).places(models.lexicon)
        for p in (False, True)
    )
    assert sorted(real.tolist()) == sorted(control.tolist())
    assert not np.array_equal(real, control)
