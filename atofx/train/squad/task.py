"""The task: data, network, and how well a network answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from atofx.errors import ConfigError, VerifyError
from atofx.ir.copies import deepcopy
from atofx.methods.protocol import call
from atofx.train import rng
from atofx.train.config import TrainConfig
from atofx.train.images import DataSet
from atofx.train.plan import Batch, in_order
from atofx.train.processes import Processes
from atofx.train.squad.answers import predicted_answers
from atofx.train.squad.bert import FOLDER, Bert, example_inputs, kept_config, kept_vocabulary, load_bert, untrained
from atofx.train.squad.records import Questions, load_questions
from atofx.train.squad.score import exact_match, f1, mean_score
from atofx.train.squad.sequences import Sequences
from atofx.train.squad.windows import make_windows
from atofx.train.task import Figure, Words

_EXACT_MATCH, _F1 = "exact_match", "f1"
_OF_IMAGES = ("image_size", "augment", "color_jitter", "cache", "mixup")
_SHOWN = 5


class Squad:
    """Questions on texts, answered with a piece of the text.

    Args:
        config: options.
        questions: training and test questions.
        bert: network and tokenizer.
        processes: those of the run.

    Raises:
        ConfigError: options that do not fit together.
    """

    figures = (Figure(_EXACT_MATCH, "exact match"), Figure(_F1, "F1"))
    images: DataSet | None = None

    def __init__(self, config: TrainConfig, questions: Questions, bert: Bert, processes: Processes) -> None:
        self._config = config
        self._questions = questions
        self._bert = bert
        self._processes = processes
        self.train = Sequences(make_windows(questions.train, bert.tokenizer, config.squad), processes.device)
        self._test = Sequences(make_windows(questions.test, bert.tokenizer, config.squad), processes.device)
        self.words = Words(
            sample=f"sequence of {config.squad.max_length} tokens",
            samples="sequences",
            tested="test questions",
            answer="answer",
        )

    @classmethod
    def load(cls, config: TrainConfig, processes: Processes) -> Squad:
        """The task with the data and the network that the configuration names.

        Raises:
            ConfigError: options that do not fit together, or the network.
            DataError: the data is missing or malformed.
            FileError: a checkpoint cannot be read.
        """
        for name in _OF_IMAGES:
            if getattr(config, name) != TrainConfig.model_fields[name].default:
                raise ConfigError(f"{name} is for images; task squad has texts: leave it out")
        questions = load_questions(config.data)
        return cls(config, questions, load_bert(config, lambda: _texts(questions)), processes)

    @property
    def name(self) -> str:
        """The path of the questions."""
        return self._config.data

    def summary(self) -> str:
        """Numbers of questions and sequences."""
        asked, test = len(self._questions.train), len(self._questions.test)
        return (
            f"{self.name}: {asked:,} training and {test:,} test questions in {len(self.train):,} and "
            f"{len(self._test):,} sequences, {len(self._bert.tokenizer):,} tokens in the vocabulary"
        )

    def model(self) -> nn.Module:
        """BERT before this training, in eval mode, so that its graph has no dropout in the attention."""
        rng.seed_all(self._config.seed)
        model = self._bert.make().to(self._processes.device)
        if self._config.squad.embeddings == "fixed":
            model.get_submodule("bert.embeddings").requires_grad_(False)
        return model

    def teacher(self, config: TrainConfig, folder: Path) -> nn.Module:
        """The network whose configuration a run has left, if it reads the same tokens."""
        if kept_vocabulary(folder) != self._bert.tokenizer.get_vocab():
            raise ConfigError(
                f"distill: the network in {str(folder)!r} has another vocabulary, so it cannot read this run's tokens; "
                "train both on one vocabulary (vocab) or from one checkpoint"
            )
        return untrained(kept_config(folder))

    def example(self, count: int) -> dict[str, Tensor]:
        """Random tokens of the full length, the second half of them the context."""
        inputs = example_inputs(len(self._bert.tokenizer), count, self._config.squad.max_length)
        return {name: tensor.to(self._processes.device) for name, tensor in inputs.items()}

    def logits(self, output: Any) -> Tensor:
        """Scores of the starts, then of the ends, (2 x batch, tokens)."""
        return torch.cat([output.start_logits, output.end_logits])

    def labels(self, targets: Tensor) -> Tensor:
        """Positions of the starts, then of the ends, (2 x batch,)."""
        return targets.T.flatten()

    def evaluate(self, model: nn.Module, autocast: AbstractContextManager[object] | None = None) -> dict[str, float]:
        """Exact match and F1 on the test questions."""
        training = model.training
        with autocast or nullcontext():
            answers = self._answers(self._scores(model))
        model.train(training)
        return self._figures(answers)

    def compare(self, masked: nn.Module, compact: nn.Module) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """The figures of both, which must give the same answer in words to every test question.

        Where float32 rounding decides between two answers, the question is looked at again in float64.
        """
        first, second = (self._answers(self._scores(model)) for model in (masked, compact))
        doubtful = [number for number, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1]]
        wrong = [self._questions.test[number].id for number in self._differing(masked, compact, doubtful)]
        if wrong:
            raise VerifyError(
                f"the masked and the compact model disagree on {len(wrong)} of {len(first)} test questions, such as "
                f"{wrong[:_SHOWN]}; they should compute the same function: please report this with the model"
            )
        return self._figures(first), self._figures(second)

    def keep(self, folder: Path) -> None:
        """Configuration and tokenizer as a Hugging Face checkpoint without weights."""
        self._bert.config.save_pretrained(folder / FOLDER)
        self._bert.tokenizer.save_pretrained(folder / FOLDER)

    @torch.no_grad()
    def _scores(self, model: nn.Module) -> Tensor:
        """(2, sequences, tokens) float32 of the test sequences, over all processes."""
        model.eval()
        found = torch.zeros(2, *self._test.windows.ids.shape, device=self._processes.device)
        plan = list(in_order(len(self._test), self._config.eval_batch_size, self._processes.share))
        for batch, (inputs, _) in zip(plan, self._test.batches(plan), strict=True):
            logits = self.logits(call(model, inputs)).float()
            found[:, torch.from_numpy(batch.indices), : logits.shape[1]] = logits.view(2, -1, logits.shape[1])
        return self._processes.sum(found)

    def _answers(self, scores: Tensor) -> list[str]:
        options = self._config.squad
        return predicted_answers(
            scores,
            self._test.windows,
            self._questions.test,
            n_best=options.n_best,
            most_tokens=options.max_answer_length,
        )

    def _figures(self, answers: Sequence[str]) -> dict[str, float]:
        truths = [question.answers for question in self._questions.test]
        return {_EXACT_MATCH: mean_score(exact_match, answers, truths), _F1: mean_score(f1, answers, truths)}

    @torch.no_grad()
    def _differing(self, masked: nn.Module, compact: nn.Module, questions: Sequence[int]) -> list[int]:
        """Those of the questions on whose sequences the models differ in float64, too."""
        if not questions:
            return []
        pair = [deepcopy(model).double() for model in (masked, compact)]
        wrong = []
        for question in questions:
            rows = (self._test.windows.question == question).nonzero().flatten().numpy().astype(np.int64)
            for inputs, _ in self._test.batches([Batch(rows)]):
                first, second = (self.logits(call(model, inputs)) for model in pair)
                if not torch.allclose(first, second, rtol=1e-9, atol=1e-12):
                    wrong.append(question)
        return wrong


def _texts(questions: Questions) -> Iterable[str]:
    """All training texts, each context once."""
    yield from dict.fromkeys(question.context for question in questions.train)
    yield from (question.text for question in questions.train)
