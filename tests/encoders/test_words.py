"""Reports become tokens whose words and sentences are known, put together anew for every key."""

from __future__ import annotations

import pytest

from benchmark.encoders.text import Tokenizer
from benchmark.encoders.words import Words, chosen, write_vocabulary

REPORTS = [("There is patchy opacity in the right lower zone.", "No effusion.", "Heart is large."), ("Plate-like atelectasis.",)]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words") / "tokenizer"
    write_vocabulary(REPORTS, folder)
    return Words(Tokenizer(folder, 40), REPORTS)


def test_every_token_knows_its_word_and_its_sentence(words):
    batch = words.batch([0, 1], "all", [1, 2])
    assert batch.mask.sum(dim=1).tolist() == [19, 7]
    assert batch.sentence[0].tolist() == [-1, *[0] * 10, *[1] * 3, *[2] * 4, -1]
    assert batch.word[1, :7].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert batch.word[1, 7:].eq(-1).all()
    assert batch.ids[1, 7:].eq(0).all()


def test_no_word_of_the_reports_is_unknown(words):
    assert all(1 not in sentence for report in words.reports for sentence in report.ids)


def test_sentences_that_no_longer_fit_are_left_out_whole(tmp_path):
    write_vocabulary(REPORTS, tmp_path)
    batch = Words(Tokenizer(tmp_path, 15), REPORTS).batch([0], "all", [1])
    assert batch.sentence[0].tolist() == [-1, *[0] * 10, *[1] * 3, -1]
    cut = Words(Tokenizer(tmp_path, 8), REPORTS).batch([0], "all", [1])
    assert cut.sentence[0].tolist() == [-1, *[0] * 6, -1]


def test_a_word_of_several_pieces_is_one_word(tmp_path):
    write_vocabulary([("heart",)], tmp_path)
    with (tmp_path / "vocab.txt").open("a") as file:
        file.write("opac\n##ity\n")
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    batch = Words(Tokenizer(tmp_path, 20), [("opacity heart",)]).batch([0], "all", [1])
    assert batch.word[0].tolist() == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("how", ["all", "swapped", "shuffled", "one"])
def test_which_sentences_are_read_depends_on_the_key_alone(how):
    found = [chosen(5, how, key) for key in range(200)]
    assert found == [chosen(5, how, key) for key in range(200)]
    kinds = {tuple(one) for one in found}
    assert all(sorted(one) == list(range(5)) for one in kinds) or how == "one"
    assert len(kinds) == {"all": 1, "one": 5}.get(how, len(kinds))
    if how in ("swapped", "shuffled"):
        assert len(kinds) > 5


def test_two_in_five_reports_keep_their_order_when_some_are_swapped():
    kept = sum(chosen(6, "swapped", key) == list(range(6)) for key in range(2000)) / 2000
    assert 0.37 < kept < 0.47


def test_sentences_joined_as_text_fuse_and_cut_the_last_special_token_as_released(tmp_path):
    """PRIOR's: "Effusion" and "The heart" become one unknown word, owners go by what each sentence has alone, and the end is cut."""
    reports = [("Effusion", "The heart is large.")]
    write_vocabulary(reports, tmp_path)
    tokenizer = Tokenizer(tmp_path, 12)
    tokens, text = (Words(tokenizer, reports, joined).batch([0], "all", [1]) for joined in ("tokens", "text"))
    assert tokens.sentence[0].tolist() == [-1, 0, 1, 1, 1, 1, 1, -1]
    assert text.ids[0].tolist() == [tokens.ids[0, 0], 1, *tokens.ids[0, 3:]]
    assert text.sentence[0].tolist() == [-1, 0, 1, 1, 1, 1, 1]  # "heart" and "is" lie one place early, and [SEP] has an owner
    assert text.unknown.tolist() == [1]
    cut = Words(Tokenizer(tmp_path, 5), reports, "text").batch([0], "all", [1])
    assert cut.ids[0].tolist() == text.ids[0, :5].tolist()
    assert cut.ids[0, -1] != text.ids[0, -1]
    kept = Words(Tokenizer(tmp_path, 5), reports).batch([0], "all", [1])
    assert kept.ids[0, -1] == text.ids[0, -1]


def test_words_that_the_vocabulary_does_not_have_are_counted(words, tmp_path):
    assert words.batch([0, 1], "all", [1, 2]).unknown.tolist() == [0, 0]
    write_vocabulary([("heart is large",)], tmp_path)
    found = Words(Tokenizer(tmp_path, 20), [("heart opacity is large zone",)]).batch([0], "all", [1])
    assert found.unknown.tolist() == [2]
    assert found.word[0].tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_texts_are_padded_to_the_limit_where_the_recipe_says_so(tmp_path):
    write_vocabulary(REPORTS, tmp_path)
    longest, limit = (Words(Tokenizer(tmp_path, 30), REPORTS, padded_to=to).batch([1], "all", [1]) for to in ("longest", "limit"))
    assert limit.ids.shape == (1, 30)
    assert limit.ids[0, : longest.ids.shape[1]].tolist() == longest.ids[0].tolist()
    assert limit.mask.sum() == longest.mask.sum()
