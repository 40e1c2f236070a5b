"""Words out of pieces, sentences out of reports, and nothing cut in silence."""

from __future__ import annotations

import json
import shutil

import pytest
import tokenizers
import torch
import transformers

from benchmark.encoders import clip, gloria
from benchmark.encoders.text import Tokenizer, bert, bert_states, join_sentences, sentences, sum_words, token_rows, words_of
from benchmark.encoders.words import Words
from benchmark.errors import EnvironmentProblem

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "pneumo", "##thorax", "mild", "edema", "."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    transformers.BertConfig(vocab_size=len(WORDS)).save_pretrained(folder)  # a folder as Bio_ClinicalBERT's: configuration and vocabulary
    return folder


def test_texts_that_do_not_fit_are_counted(folder):
    tokens = Tokenizer(folder, 5)(["No edema", "no pneumothorax mild edema"])
    assert tokens.n_truncated == 1
    assert tokens.mask.tolist() == [[True] * 4 + [False], [True] * 5]
    assert tokens.pieces[1] == ("[CLS]", "no", "pneumo", "##thorax", "[SEP]")


def test_a_tokenizers_own_tokens_are_no_words_and_an_unknown_word_is_one(folder):
    tokens = Tokenizer(folder, 8)(["No pneumothorax zzz", "edema", ""])
    assert tokens.pieces[0] == ("[CLS]", "no", "pneumo", "##thorax", "[UNK]", "[SEP]")
    assert tokens.words.int().tolist() == [[0, 1, 1, 1, 1, 0], [0, 1, 0, 0, 0, 0], [0] * 6]


def test_pieces_join_the_word_before_them():
    assert words_of(("[CLS]", "pneumo", "##thorax", "##es", "mild", "[SEP]")) == (
        ("[CLS]", "pneumothoraxes", "mild", "[SEP]"),
        (0, 1, 1, 1, 2, 3),
    )


def test_a_words_vector_is_the_sum_of_its_pieces_and_padding_adds_nothing():
    states = torch.randn(2, 1, 6, 3)
    summed, mask = sum_words(states, [("[CLS]", "pneumo", "##thorax", "[SEP]")])
    torch.testing.assert_close(summed[:, 0, 1], states[:, 0, 1] + states[:, 0, 2])
    torch.testing.assert_close(summed[:, 0, 2], states[:, 0, 3])
    assert mask.tolist() == [[True, True, True, False, False, False]]
    assert not summed[:, 0, 3:].any()


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("No edema. Heart normal.", ["No edema.", "Heart normal."]),
        ("1. No edema.\n2. A nodule of 2.5 cm.", ["No edema.", "A nodule of 2.5 cm."]),
        ("Lines\nare joined. ___ unchanged.", ["Lines are joined.", "___ unchanged."]),
        ("  \n\n ", []),
        ("no stop at the end", ["no stop at the end"]),
    ],
)
def test_sentences_of_a_report(report, expected):
    assert sentences(report) == expected


def test_sentences_become_one_sequence_and_those_that_do_not_fit_are_dropped_whole_or_cut(folder):
    tokenizer = Tokenizer(folder, 7)
    reports = [["no edema", "mild pneumothorax", "no edema"]]
    whole, owner = join_sentences(tokenizer, reports, whole_only=True)
    assert whole.pieces == (("[CLS]", "no", "edema", "mild", "pneumo", "##thorax", "[SEP]"),)
    assert owner.tolist() == [[-1, 0, 0, 1, 1, 1, -1]]
    cut, owner = join_sentences(tokenizer, reports, whole_only=False)
    assert owner.tolist() == [[-1, 0, 0, 1, 1, 1, 2]]
    assert whole.n_truncated == cut.n_truncated == 1


def test_bert_equals_the_librarys_states_and_padding_changes_nothing(folder):
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=10, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16)
    model = bert(config).eval()
    tokenizer = Tokenizer(folder, 12)
    with torch.no_grad():
        alone, padded = (
            bert_states(model, tokenizer(["mild edema"]), 2),
            bert_states(model, tokenizer(["mild edema"], pad_to_limit=True), 2),
        )
        library = model(**transformers.AutoTokenizer.from_pretrained(folder)("mild edema", return_tensors="pt")).last_hidden_state
    torch.testing.assert_close(alone[-1], library, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(padded[:, :, :4], alone, atol=1e-6, rtol=1e-5)


def test_tokenizer_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(EnvironmentProblem, match="local folder"):
        Tokenizer(tmp_path, 5)


BROKEN = {
    "empty vocabulary": {"vocab.txt": ""},
    "vocabulary without special tokens": {"vocab.txt": "no\nmild\n"},
    "vocabulary cut in a character": {"vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n\xc3"},
    "broken tokenizer": {"tokenizer.json": "{"},
    "tokenizer of another kind": {"tokenizer.json": "[]"},
    "tokenizer without a model": {"tokenizer.json": '{"version": "1.0"}'},
    "tokenizer cut in half": {"tokenizer.json": '{"version": "1.0", "model": {"type": "WordPiece", "vocab": {"a": 0'},
    "broken settings": {"tokenizer_config.json": "{"},
    "settings of another kind": {"tokenizer_config.json": "[]"},
    "unknown class": {"tokenizer_config.json": '{"tokenizer_class": 3}'},
    "length of another kind": {"tokenizer_config.json": '{"model_max_length": "x", "padding_side": "up"}'},
    "broken configuration": {"config.json": "{"},
    "configuration of another kind": {"config.json": "3"},
}


NESTED = "[" * 200_000
BROKEN |= {f"{name} nested without end": {name: NESTED} for name in ("tokenizer.json", "tokenizer_config.json", "config.json")}


@pytest.mark.parametrize("kind", BROKEN)
def test_malformed_tokenizer_ends_in_a_sentence(tmp_path, folder, kind):
    shutil.copytree(folder, tmp_path / "broken")
    for name, content in BROKEN[kind].items():
        (tmp_path / "broken" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(EnvironmentProblem, match=r"The tokenizer .* cannot be read .*whole vocabulary"):
        Tokenizer(tmp_path / "broken", 8)


def test_a_tokenizer_to_which_every_word_is_nothing_is_refused(tmp_path):
    """Without a token for unknown words, it would turn reports of another vocabulary into padding."""
    tokenizers.Tokenizer(tokenizers.models.BPE({"[PAD]": 0, "q": 1}, [])).save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(EnvironmentProblem, match="it does not cut and pad texts to 8 tokens"):
        Tokenizer(tmp_path, 8)


def test_attention_of_the_text_tower_is_the_one_that_the_library_chooses_by_itself():
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 30}
    chosen = transformers.BertModel(transformers.BertConfig(**small)).config._attn_implementation
    assert bert(transformers.BertConfig(**small)).config._attn_implementation == chosen


def bert_folder(folder, n_words, config):
    """A tokenizer of BERT with its special tokens and words, and the configuration beside it."""
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{k}" for k in range(n_words - 5))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    if config is not None:
        (folder / "config.json").write_text(json.dumps({"model_type": "bert"} | config))
    return folder


@pytest.mark.parametrize(
    ("n_rows", "n_words"),
    [
        (102, 102),  # as BERT (30,522), Bio_ClinicalBERT (28,996) and RoBERTa (50,265): none is padded
        (104, 102),  # padded to a multiple of 8
        (128, 102),  # of 64
        (192, 129),  # the widest of 64: 63 rows
        (200, 101),  # of 100, as DeBERTa-v3's 128,100
    ],
)
def test_a_whole_tokenizer_is_taken_also_where_rows_were_padded(tmp_path, n_rows, n_words):
    Tokenizer(bert_folder(tmp_path / "bert", n_words, {"vocab_size": n_rows}), 8)


@pytest.mark.parametrize(
    ("n_rows", "n_words", "why"),
    [
        (102, 101, "Its end is missing"),  # one line is gone, and 102 is no multiple of 8
        (104, 40, "Its end is missing"),  # 64 fewer are no padding
        (192, 128, "Its end is missing"),
        (102, 103, "It belongs to another model"),
        (104, 108, "It belongs to another model"),
    ],
)
def test_a_tokenizer_of_another_size_than_its_configuration_says_is_refused(tmp_path, n_rows, n_words, why):
    for k, config in enumerate(({"vocab_size": n_rows}, {"text_config": {"vocab_size": n_rows}})):
        folder = bert_folder(tmp_path / f"bert{k}", n_words, config)
        with pytest.raises(EnvironmentProblem) as refused:
            Tokenizer(folder, 8)
        assert f"{folder} (vocab.txt) has {n_words} entries, and the config.json beside it says {n_rows}. {why}" in str(refused.value)
        assert "fetch the tokenizer that the text encoder was trained with, whole" in str(refused.value)


def test_a_vocabulary_cut_between_two_lines_is_refused(tmp_path):
    folder = bert_folder(tmp_path / "bert", 203, {"vocab_size": 203})
    lines = (folder / "vocab.txt").read_text().splitlines(keepends=True)
    (folder / "vocab.txt").write_text("".join(lines[:100]))
    with pytest.raises(EnvironmentProblem, match=r"has 100 entries, .* says 203"):
        Tokenizer(folder, 8)


def test_a_tokenizer_json_without_its_last_words_is_refused(tmp_path):
    folder = bert_folder(tmp_path / "bert", 203, {"vocab_size": 203})
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    (folder / "vocab.txt").unlink()
    Tokenizer(folder, 8)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"] = {word: k for word, k in content["model"]["vocab"].items() if k < 100}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(EnvironmentProblem, match=r"\(tokenizer\.json\) has 100 entries, .* says 203"):
        Tokenizer(folder, 8)


@pytest.mark.parametrize(("n_words", "fits"), [(102, True), (101, False), (103, False)])
def test_a_backbone_takes_the_tokenizer_that_its_text_encoder_was_built_for_and_no_other(tmp_path, n_words, fits):
    """Also where the folder's configuration leaves the size out, as the library writes it when it is the default."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    shape = clip.ClipShape(patch=32, width=32, layers=1, joint=16, head_width=16, vocabulary=102, text_width=32, text_layers=1)
    built = {
        "Gloria": gloria.Gloria("resnet18", transformers.BertConfig(vocab_size=102, **sizes)),
        "Clip": clip.ClipBackbone("tiny", shape),
    }
    given = Tokenizer(bert_folder(tmp_path / "bert", n_words, {}), 8)
    for name, backbone in built.items():
        if fits:
            backbone.tokenizer = given
            assert backbone.tokenizer is given
            continue
        with pytest.raises(EnvironmentProblem, match=rf"has {n_words} entries, and the text encoder of {name}\w* is built for 102"):
            backbone.tokenizer = given
        assert backbone.tokenizer is None


def test_embeddings_of_other_things_than_tokens_say_nothing_of_a_vocabulary():
    assert token_rows(torch.nn.ModuleDict({"positions": torch.nn.Embedding(50, 4)})) is None
    two = {"a": torch.nn.ModuleDict({"wte": torch.nn.Embedding(50, 4)}), "b": torch.nn.ModuleDict({"wte": torch.nn.Embedding(60, 4)})}
    assert token_rows(torch.nn.ModuleDict(two)) is None


def test_a_tokenizer_in_one_file_reads_as_its_folder_does(folder, tmp_path):
    whole = Tokenizer(folder, 8)
    whole._tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    alone = Tokenizer(tmp_path / "tokenizer.json", 8)
    texts = ["No pneumothorax.", "mild edema " * 5]
    assert alone(texts).ids.tolist() == whole(texts).ids.tolist()
    assert alone(texts).mask.tolist() == whole(texts).mask.tolist()
    assert alone(texts).n_truncated == 1


def of_words(folder, *, before=(), behind=(), **settings):
    """A tokenizer of whole words that puts the given tokens around a text."""
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if before or behind:
        special = [(token, WORDS.index(token)) for token in {*before, *behind}]
        made.post_processor = tokenizers.processors.TemplateProcessing(single=[*before, "$A", *behind], special_tokens=special)
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_a_tokenizer_without_special_tokens_is_refused(tmp_path):
    with pytest.raises(EnvironmentProblem, match="it puts no special tokens around a text"):
        Tokenizer(of_words(tmp_path / "bare"), 8)


def test_a_tokenizer_that_pads_on_the_left_is_refused(tmp_path):
    with pytest.raises(EnvironmentProblem, match="it pads texts on the left"):
        Tokenizer(of_words(tmp_path / "left", before=["[CLS]"], behind=["[SEP]"], padding_side="left"), 8)


@pytest.mark.parametrize(("before", "behind"), [((), ("[SEP]",)), (("[CLS]",), ()), (("[CLS]", "[CLS]"), ("[SEP]",))])
def test_sentences_are_joined_between_two_special_tokens_and_no_other_number(tmp_path, before, behind):
    tokenizer = Tokenizer(of_words(tmp_path / "other", before=before, behind=behind), 8)
    assert tokenizer(["no edema"]).pieces == ((*before, "no", "edema", *behind),)
    for read in (lambda: join_sentences(tokenizer, [["no edema"]], whole_only=True), lambda: Words(tokenizer, [("no edema",)])):
        with pytest.raises(EnvironmentProblem, match=f"puts {len(before + behind)} special tokens around a text"):
            read()


def test_a_report_without_sentences_is_its_two_special_tokens(folder):
    tokens, owner = join_sentences(Tokenizer(folder, 7), [[], ["no edema"]], whole_only=False)
    assert tokens.pieces == (("[CLS]", "[SEP]"), ("[CLS]", "no", "edema", "[SEP]"))
    assert owner.tolist() == [[-1, -1, -1, -1], [-1, 0, 0, -1]]
