"""Texts written anew by published models, and runs whose texts are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsvc.augment import keys as random
from dlsvc.augment.text import BackTranslation, Generation
from dlsvc.errors import NotFound, UsageError
from dlsvc.published import Writers, writers
from dlsvc.train.feeding import augmentations_of
from dlsvc.train.needs import settle_needs
from tests.serving.conftest import publish
from tests.train.trials import spec_of, train_in_group

TEXTS = ["Open the table.", "Close it", "", "word " * 400, "Enter a name here.", *(f"Row {n}" for n in range(20))]
DATA: dict[str, Any] = {"source": "wordnet", "limit": 64, "text": {"vocab_size": 32, "max_seq_len": 8}}


def _keys(count: int) -> random.Keys:
    return random.sample_keys(0, np.zeros(count, np.int64), np.arange(count))


@pytest.mark.parametrize("kind", ["back-translation", "generation"])
def test_what_is_written_of_a_text_does_not_depend_on_the_others(kind: str, home: Path) -> None:
    french, novel = publish("french", home), publish("novel", home)
    bare: Any = BackTranslation(french, french, p=1) if kind == "back-translation" else Generation(novel, p=1)
    augmentation = bare.with_resources({"predict": Writers(home)})
    keys = _keys(len(TEXTS))
    together = augmentation.apply_text(TEXTS, keys)
    alone = [augmentation.apply_text([text], keys[n : n + 1])[0] for n, text in enumerate(TEXTS)]
    assert together == alone
    # Neither the empty one nor the endless one can be read.
    assert (together[2], together[3]) == (TEXTS[2], TEXTS[3])
    assert sum(new != old for new, old in zip(together, TEXTS, strict=True)) > 10
    if kind == "generation":
        assert together[4].startswith("Enter a ")
        assert augmentation.apply_text(TEXTS, _keys(len(TEXTS) + 1)[1:]) != together  # other seeds, other texts


def test_a_run_is_the_same_for_any_number_of_workers(home: Path) -> None:
    french, novel = publish("french", home), publish("novel", home)
    augment = [
        {"name": "back-translation", "model": french, "back": french, "p": 0.3},
        {"name": "generation", "model": novel, "p": 0.5},
    ]
    data = {**DATA, "augment": augment}
    changes = {"data": data, "batch": {"global_size": 16, "micro_size": 4, "reduce": "exact"}, "budget__steps": 2}
    digests = set()
    for count in (1, 2):
        spec = spec_of("text_classifier", strategy="ddp" if count > 1 else "plain", scaling__workers=count, **changes)
        digests.add(train_in_group(spec, home, run_name=f"anew-{count}", world_size=count)["weights_sha256"])
    plain = spec_of("text_classifier", strategy="plain", **{**changes, "data": {**data, "augment": []}})
    other = train_in_group(plain, home, run_name="not-anew", world_size=1)["weights_sha256"]
    assert len(digests) == 1
    assert other not in digests


def test_a_model_that_is_missing_or_does_not_write_is_named(home: Path) -> None:
    augment = [{"name": "deletion"}, {"name": "back-translation", "model": "no-such", "back": "no-such"}]
    spec = spec_of("text_classifier", data={**DATA, "augment": augment})
    with pytest.raises(NotFound, match=r"data\.augment\[1\]\.(model|back): .*no-such.*no recipe publishes it"):
        settle_needs(spec, make=False, address=None)
    with pytest.raises(UsageError, match="of task contrastive; texts are written by one of language-modeling"):
        Writers(home)(publish("clip", home), ["a"], [0], {})


def test_augmentations_of_a_spec_are_given_their_models(home: Path) -> None:
    french = publish("french", home)
    data = {**DATA, "augment": [{"name": "back-translation", "model": french, "back": french}]}
    (found,) = augmentations_of(spec_of("text_classifier", data=data).data.augment, home)
    assert found.resources["predict"] is writers(home)
