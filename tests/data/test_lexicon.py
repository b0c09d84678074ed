from __future__ import annotations

from pathlib import Path

from dlsvc.data.lexicon import wordnet_lexicon


def test_synonyms_are_the_other_members_of_synsets(data_home: Path) -> None:
    lexicon = wordnet_lexicon(data_home)
    assert {"auto", "automobile", "motorcar"} <= set(lexicon["car"])
    assert "car" not in lexicon["car"]
    assert "car" in lexicon["automobile"]
    assert list(lexicon["car"]) == sorted(lexicon["car"])
    assert not {"in", "an", "who"} & set(lexicon)
    assert len(lexicon) > 50_000
