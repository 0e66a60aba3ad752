"""Where network and tokenizer come from: a checkpoint folder, a configuration, a vocabulary; without a network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForPreTraining, BertForQuestionAnswering

from atofx.errors import ConfigError, FileError
from atofx.train import run
from atofx.train.processes import Processes
from atofx.train.squad.bert import SIZES, load_bert, untrained
from atofx.train.squad.task import Squad
from atofx.train.squad.vocabulary import of_texts
from tests.train.squad.conftest import NET, config, quick

ROOT = Path(__file__).parents[3]
WORDS = ["What colour is the boat of Anna? Where was it built, and when did Lena buy it? 1950 red Rome"]


def make_checkpoint(folder, kind=BertForQuestionAnswering):
    tokenizer = of_texts(WORDS, 256, lower_case=True)
    torch.manual_seed(5)
    model = kind(BertConfig(num_hidden_layers=2, **NET, vocab_size=len(tokenizer) + 3))  # padded, as some are
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.fixture
def checkpoint(tmp_path):
    make_checkpoint(tmp_path / "bert")
    return tmp_path / "bert"


def from_folder(data, folder, **values):
    chosen = config(data, folder / "run", model=str(folder), **values)
    return chosen.updated(squad=chosen.squad.model_copy(update={"config": {}}))


def test_a_checkpoint_is_trained_on_with_its_own_words(data, checkpoint):
    chosen = from_folder(data, checkpoint, epochs=1)
    model = Squad.load(chosen, Processes.present()).model()
    wanted = BertForQuestionAnswering.from_pretrained(checkpoint).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())
    result = run(chosen)
    assert result.flops_compact < result.flops_dense
    kept = json.loads((checkpoint / "run" / "hugging_face" / "config.json").read_text(encoding="utf-8"))
    assert kept["vocab_size"] == wanted["bert.embeddings.word_embeddings.weight"].shape[0]


def test_a_language_model_gets_a_new_head_that_depends_on_the_seed(data, tmp_path):
    encoder = make_checkpoint(tmp_path, BertForPreTraining).bert.embeddings.word_embeddings.weight
    heads = []
    for seed in (1, 1, 2):
        model = Squad.load(from_folder(data, tmp_path, seed=seed), Processes.present()).model()
        assert torch.equal(model.get_parameter("bert.embeddings.word_embeddings.weight"), encoder)
        heads.append(model.get_parameter("qa_outputs.weight"))
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_an_old_checkpoint_with_a_list_of_words_only(data, checkpoint):
    tokens = of_texts(WORDS, 256, lower_case=True).get_vocab()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (checkpoint / name).unlink()
    (checkpoint / "vocab.txt").write_text("\n".join(sorted(tokens, key=tokens.__getitem__)), encoding="utf-8")
    found = load_bert(from_folder(data, checkpoint), lambda: ())
    assert found.tokenizer.get_vocab() == tokens
    assert found.tokenizer("Red")["input_ids"] == [tokens["[CLS]"], tokens["red"], tokens["[SEP]"]]


def spoil_pickle(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")


def spoil_kind(folder):
    (folder / "config.json").write_text('{"model_type": "roberta"}', encoding="utf-8")


def spoil_shape(folder):
    file = folder / "config.json"
    file.write_text(
        file.read_text(encoding="utf-8").replace('"hidden_size": 32', '"hidden_size": 64'), encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (spoil_pickle, FileError, r"pytorch_model.bin is a pickle, and opening one can run code.*give '.*config.json'"),
        (spoil_kind, ConfigError, "is the configuration of roberta, and only that of a bert is read"),
        (spoil_shape, FileError, "cannot load the weights in"),
        (lambda folder: (folder / "config.json").write_text("{"), FileError, "cannot read the configuration"),
        (
            lambda folder: (folder / "config.json").unlink(),
            FileError,
            "is no Hugging Face checkpoint: it has no config",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink(), FileError, "neither tokenizer.json nor vocab.txt"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), FileError, "cannot read the tokenizer"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"1"), FileError, "cannot load the weights in"),
    ],
)
def test_damaged_checkpoints_are_refused(data, checkpoint, spoil, error, message):
    spoil(checkpoint)
    with pytest.raises(error, match=message):
        Squad.load(from_folder(data, checkpoint), Processes.present()).model()


def test_a_checkpoint_brings_everything(data, checkpoint):
    with pytest.raises(ConfigError, match="has its own vocabulary; leave out vocab"):
        load_bert(from_folder(data, checkpoint, vocab="vocab.txt"), lambda: ())
    with pytest.raises(ConfigError, match=r"has its own configuration; leave out squad\.config"):
        load_bert(config(data, checkpoint / "run", model=str(checkpoint)), lambda: ())


def test_a_configuration_means_random_weights(data, checkpoint):
    found = load_bert(from_folder(data, checkpoint).updated(model=str(checkpoint / "config.json")), lambda: WORDS)
    assert found.config.hidden_size == 32
    assert found.config.vocab_size == len(found.tokenizer)
    torch.manual_seed(0)
    one = found.make().state_dict()
    assert not torch.equal(one["qa_outputs.weight"], found.make().state_dict()["qa_outputs.weight"])


def test_a_vocabulary_of_ones_own(data, tmp_path):
    file = tmp_path / "vocab.txt"
    file.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\n", encoding="utf-8")
    found = load_bert(config(data, tmp_path, vocab=str(file)), lambda: ())
    assert (len(found.tokenizer), found.config.vocab_size) == (6, 6)
    with pytest.raises(ConfigError, match="is for words; images need none"):
        quick(data, tmp_path / "run", task="classification", data="digits", model="resnet20", vocab="words.txt")


def test_sizes_are_the_published_ones():
    counts = {}
    for name in ("bert-tiny", "bert-base"):
        layers, width, heads = SIZES[name]
        with torch.device("meta"):
            net = untrained(
                BertConfig(
                    num_hidden_layers=layers,
                    hidden_size=width,
                    num_attention_heads=heads,
                    intermediate_size=4 * width,
                    vocab_size=30522,
                )
            )
        counts[name] = sum(p.numel() for p in net.parameters())
    assert round(counts["bert-tiny"] / 1e6, 1) == 4.4  # Turc et al.: 4.4 M
    assert round(counts["bert-base"] / 1e6) == 109  # Devlin et al.: 110 M, with a pooler of 0.6 M


def test_without_transformers_one_is_told_what_to_install(data, tmp_path):
    code = "import sys; sys.modules['transformers'] = None; import atofx.cli; atofx.cli.main()"
    command = [
        sys.executable,
        "-c",
        code,
        "train",
        "--task",
        "squad",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        'atofx: BERT needs the [squad] extra (transformers is not installed): pip install "atofx[squad]"'
    )
    assert not (tmp_path / "run").exists()
