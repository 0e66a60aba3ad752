"""BERT trained and pruned on questions: it learns, and the compact network is exact."""

import json

import pytest
import torch

import atofx
from atofx.errors import ConfigError, DataError, VerifyError
from atofx.methods.protocol import call
from atofx.train import checkpoint, run
from atofx.train.config import TrainConfig
from atofx.train.distill import load_teacher
from atofx.train.plan import Share, in_order
from atofx.train.processes import Processes
from atofx.train.recipes import load_config
from atofx.train.squad.bert import kept_config, untrained
from atofx.train.squad.task import Squad
from tests.train.interrupted import assert_same_tensors, kill_at
from tests.train.squad.conftest import QUICK, config, quick

OF_OTO = ("*.attention.self.query", "*.intermediate.dense")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A finished run with HSPG: its folder and its result."""
    folder = tmp_path_factory.mktemp("runs") / "hspg"
    return folder, quick(data, folder)


def sparse_model(folder):
    """The trained network as its last checkpoint has it, dropped units at zero."""
    model = untrained(kept_config(folder))
    model.load_state_dict(checkpoint.weights(folder / "last.safetensors"))
    return model.eval()


def sequences(data, folder):
    """All training sequences, in pairs, which differ in their lengths."""
    task = Squad.load(config(data, folder), Processes.present())
    return [inputs for inputs, _ in task.train.batches(in_order(len(task.train), 2, Share()))]


def test_it_learns_which_answer_a_question_asks_for(trained):
    """One that ignores the question gets a third at the most; one that has learnt nothing, next to nothing."""
    _, result = trained
    scores = {score.name: score for score in result.scores}
    assert scores["exact_match"].compact == scores["exact_match"].masked > 80
    assert scores["f1"].compact == scores["f1"].masked >= scores["exact_match"].compact
    assert result.flops_compact / result.flops_dense == pytest.approx(0.7, abs=0.01)
    assert result.verification is not None
    assert result.verification.ok


def test_the_compact_network_computes_what_the_sparse_one_does(trained, data):
    """Saved and loaded back, in float64, on real sequences with padding and of several lengths."""
    folder, _ = trained
    sparse = sparse_model(folder).double()
    compact = atofx.load(folder / "compact.safetensors", lambda: untrained(kept_config(folder))).eval().double()
    batches = sequences(data, folder)
    assert len({batch["input_ids"].shape[1] for batch in batches}) > 1
    assert any(not batch["attention_mask"].all() for batch in batches)
    with torch.no_grad():
        for batch in batches:
            wanted, found = sparse(**batch), compact(**batch)
            for name in ("start_logits", "end_logits"):
                largest = wanted[name].abs().max()
                assert float((found[name] - wanted[name]).abs().max() / largest) < 1e-9
    assert sum(p.numel() for p in compact.parameters()) < sum(p.numel() for p in sparse.parameters())


def test_groups_are_those_of_oto(trained):
    """Query and key dimensions across all heads, feed-forward rows; everything else is whole."""
    folder, _ = trained
    mask = atofx.Mask.load(folder / "mask.json")
    units = {name: vector.numel() for name, vector in mask.items()}
    assert units["bert.encoder.layer.0.attention.self.query"] == 16  # of two heads, one unit each dimension
    assert units["bert.encoder.layer.0.intermediate.dense"] == 64
    whole = [name for name, vector in mask.items() if not name.endswith((".query", ".dense"))]
    assert all(mask[name].all() for name in whole)
    assert {"bert.embeddings.word_embeddings", "bert.encoder.layer.1.attention.self.value"} <= set(whole)
    weights = checkpoint.weights(folder / "last.safetensors")
    for layer in (0, 1):
        name = f"bert.encoder.layer.{layer}.attention.self"
        gone = ~mask[f"{name}.query"]
        for part in ("query", "key"):
            heads = weights[f"{name}.{part}.weight"].view(2, 16, 32)
            assert not heads[:, gone].any()
            assert heads[:, ~gone].flatten(2).any(2).all()
    rows = torch.cat([mask[f"bert.encoder.layer.{layer}.intermediate.dense"] for layer in (0, 1)])
    assert int((~rows).sum()) <= 64  # the cap: half of all
    assert sum(int((~vector).sum()) for vector in mask.values()) > 0


def test_files_of_a_run(trained):
    folder, result = trained
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "last.safetensors", "best.safetensors", "metrics.jsonl", "tensorboard", "mask.json"),
        *("compact.safetensors", "result.json", "report.html", "hugging_face"),
    }
    written = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    (match, overlap) = result.scores
    assert (written["compact_exact_match"], written["compact_f1"]) == (match.compact, overlap.compact)
    assert written["dense_f1"] is None
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    epochs = [record for record in records if record["kind"] == "epoch"]
    assert epochs[-1]["masked_exact_match"] == pytest.approx(match.masked)
    assert all("exact_match" in record or "masked_exact_match" in record for record in epochs[3::4])


@pytest.mark.parametrize("method", ["dhspg", "hesso", "ato", "l2", "taylor"])
def test_other_methods(data, tmp_path, method):
    result = quick(data, tmp_path / "run", method=method, epochs=4, flops=0.6, granularity="heads")
    assert result.flops_compact / result.flops_dense == pytest.approx(0.6, abs=0.06)
    assert [score.masked for score in result.scores] == [score.compact for score in result.scores]


def test_heads_and_the_residual_stream_can_go_too(data, tmp_path):
    """What the compiler finds beyond the groups of OTO: whole heads, and channels of the residual stream."""
    quick(data, tmp_path, granularity="heads", hspg={"groups": None, "kinds": {}}, flops=0.3, epochs=2)
    mask = atofx.Mask.load(tmp_path / "mask.json")
    assert mask["bert.encoder.layer.0.attention.self.query"].numel() == 2
    assert not mask["bert.embeddings.word_embeddings"].all()


def test_fixed_embeddings_do_not_move(data, tmp_path):
    options = {"epochs": 1, "freeze": ["bert.embeddings"], "squad": {"embeddings": "fixed"}}
    quick(data, tmp_path, **options, flops=0.8)
    before = Squad.load(config(data, tmp_path, **options), Processes.present()).model().state_dict()
    after = checkpoint.weights(tmp_path / "last.safetensors")
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert {"qa_outputs.weight", "bert.encoder.layer.0.output.dense.weight"} <= moved
    assert not [name for name in moved if name.startswith("bert.embeddings")]


def test_long_gradients_are_scaled_down(data, tmp_path):
    """A step of plain SGD is no longer than rate times the limit."""
    options = {"method": "none", "epochs": 1, "batch_size": 512, "optimizer": "sgd", "lr": 0.5, "weight_decay": 0}
    options |= {"momentum": 0, "nesterov": False, "warmup_epochs": 0, "schedule": "constant", "clip_norm": 1e-3}
    quick(data, tmp_path, **options)  # a single batch, so a single step
    before = Squad.load(config(data, tmp_path, **options), Processes.present()).model().state_dict()
    after = checkpoint.weights(tmp_path / "last.safetensors")
    squares = [(after[name] - tensor).double().square().sum() for name, tensor in before.items()]
    assert float(torch.stack(squares).sum().sqrt()) == pytest.approx(0.5e-3, rel=1e-2)


def test_the_published_recipe(data, tmp_path):
    """On a network that trains in seconds; steps are so few that epsilon is adapted in every one."""
    recipe = load_config("hspg-bert-squad")
    assert (recipe.batch_size, recipe.lr, recipe.clip_norm, recipe.momentum) == (32, 0.1, 1.0, 0)
    assert (recipe.squad.max_length, recipe.squad.stride) == (384, 128)
    assert recipe.hspg.t_half_space == pytest.approx(1 / 9)
    assert recipe.hspg.lmd_drops == pytest.approx((2 / 9, 4 / 9, 6 / 9))
    assert recipe.milestones == pytest.approx((4 / 9,))
    quick = {"squad": QUICK["squad"], "model": "bert-tiny", "epochs": 9, "latency_batch": 1}
    result = run(
        load_config("hspg-bert-squad", {**quick, "data": str(data), "out": str(tmp_path), "hspg": {"lmd": 0.1}})
    )
    mask = atofx.Mask.load(tmp_path / "mask.json")
    assert "bert.embeddings.word_embeddings" not in mask  # frozen, and the whole residual stream with it
    rows = torch.cat([mask[f"bert.encoder.layer.{layer}.intermediate.dense"] for layer in (0, 1)])
    assert 0 < int((~rows).sum()) <= 64
    assert result.flops_compact < result.flops_dense


def test_models_that_answer_differently_are_found(trained, data):
    folder, _ = trained
    task = Squad.load(config(data, folder), Processes.present())
    one, other = sparse_model(folder), sparse_model(folder)
    assert task.compare(one, other)[0]["exact_match"] > 80
    with torch.no_grad():
        other.get_parameter("qa_outputs.weight").neg_()
    with pytest.raises(VerifyError, match=r"disagree on \d+ of 30 test questions, such as \['"):
        task.compare(one, other)


def test_kill_and_resume(data, tmp_path):
    """Ends with the weights of a run that was not killed."""
    options = {"epochs": 20, "checkpoint_every": 5, "eval_every": 20}
    quick(data, tmp_path / "whole", **options)
    kill_at(140, config(data, tmp_path / "killed", **options), within=120)
    quick(data, tmp_path / "killed", **options, resume=True)
    assert_same_tensors(tmp_path / "whole" / "last.safetensors", tmp_path / "killed" / "last.safetensors")
    masks = [(tmp_path / name / "mask.json").read_text(encoding="utf-8") for name in ("whole", "killed")]
    assert masks[0] == masks[1]


def test_a_teacher_of_the_same_words(trained, data, tmp_path):
    """It answers as it has learnt to; a network that answers the same has nothing to learn from it."""
    folder, _ = trained
    task = Squad.load(config(data, folder), Processes.present())
    taught = config(data, tmp_path / "taught", distill=str(folder), distillation={"alpha": 1.0}, epochs=2)
    teacher = load_teacher(folder, taught, task, torch.device("cpu"))
    assert task.evaluate(teacher.network)["exact_match"] > 80
    inputs = sequences(data, folder)[0]
    logits = task.logits(call(sparse_model(folder), inputs))
    assert float(teacher.loss(inputs, logits, torch.tensor(2.0)).detach()) == pytest.approx(0, abs=1e-5)
    assert float(teacher.loss(inputs, logits.flip(1), torch.tensor(2.0)).detach()) > 1
    run(taught)
    quick(data, tmp_path / "alone", epochs=2)
    weights = [checkpoint.weights(tmp_path / name / "last.safetensors") for name in ("taught", "alone")]
    assert not torch.equal(weights[0]["qa_outputs.weight"], weights[1]["qa_outputs.weight"])


def test_a_teacher_of_other_words_is_refused(trained, data, tmp_path):
    folder, _ = trained
    with pytest.raises(ConfigError, match=r"distill: the network in .* has another vocabulary"):
        quick(data, tmp_path / "run", distill=str(folder), squad={"lower_case": False})
    with pytest.raises(ConfigError, match="has learnt task squad, not classification"):
        run(TrainConfig.parse({"out": str(tmp_path / "run"), "distill": str(folder)}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"method": "scratch"}, ConfigError, "method scratch searches with labelled images, and task squad has none"),
        ({"mixup": 0.2}, ConfigError, "mixup is for images; task squad has texts"),
        ({"image_size": 32}, ConfigError, "image_size is for images"),
        ({"data": "digits"}, DataError, "no file or folder 'digits' with questions"),
        ({"squad": {"max_length": 600}}, ConfigError, "max_length 600 is beyond the 512 positions of bert-tiny"),
        ({"squad": {"config": {"hidden_size": 30, "num_attention_heads": 4}}}, ConfigError, "no BERT of this config"),
        ({"squad": {"config": {"hiden_size": 32}}}, ConfigError, r"no field of a BERT .* \(did you mean 'hidden_size'"),
        ({"model": "bert-tini"}, ConfigError, r"no BERT 'bert-tini' \(did you mean 'bert-tiny'\?\)"),
        ({"model": "resnet20"}, ConfigError, r"no BERT 'resnet20' \(sizes: bert-tiny, bert-mini, .* the folder of a"),
        ({"task": "squat"}, ConfigError, "task should be 'classification' or 'squad', not 'squat'"),
    ],
)
def test_what_is_refused(data, tmp_path, values, error, message):
    with pytest.raises(error, match=message):
        quick(data, tmp_path / "run", **values)
    assert not (tmp_path / "run").exists()
