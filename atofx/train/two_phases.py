"""Methods that find a structure first: the search, then the compact network from new weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from torch import nn

from atofx.ir.mask import Mask
from atofx.methods.fixed import Fixed
from atofx.methods.protocol import Search
from atofx.methods.scratch import budget_epochs
from atofx.passes.carry import carried
from atofx.train.config import TrainConfig
from atofx.train.distill import Teacher
from atofx.train.engine import Engine
from atofx.train.network import Compact
from atofx.train.options import SearchOptions
from atofx.train.processes import Processes
from atofx.train.run_folder import RunFolder
from atofx.train.search import SearchPhase
from atofx.train.search_data import SearchData
from atofx.train.task import Task

if TYPE_CHECKING:
    from atofx.program import Program


@dataclass(frozen=True)
class Outcome:
    """What two phases end with.

    Attributes:
        program: of the network that was trained in its compact form.
        mask: over its groups.
        without: names of the blocks that it lacks.
        earlier_seconds: time that earlier, interrupted calls of this run had spent.
    """

    program: Program
    mask: Mask
    without: tuple[str, ...]
    earlier_seconds: float


@dataclass(frozen=True, eq=False)
class TwoPhases:
    """A run of such a method; both phases leave checkpoints and records in one folder.

    Attributes:
        config: options.
        options: of the search.
        task: what is learnt.
        images: of the search.
        processes: those of the run.
        folder: of checkpoints and records.
        console: where lines and bars go.
        teacher: whom the compact network learns from besides the labels.
    """

    config: TrainConfig
    options: SearchOptions
    task: Task
    images: SearchData
    processes: Processes
    folder: RunFolder
    console: Console
    teacher: Teacher | None = None

    def run(self, search: Search, program: Program, base: Program, model: nn.Module) -> Outcome:
        """Search, train, and put the trained weights into the dense model.

        Args:
            search: what finds the structure.
            program: the trace of ``model``.
            base: of the network as it was before it was widened.
            model: the dense network.
        """
        options, every = self.options, self.options.check_every
        phase = SearchPhase(self.config, every, self.images, search, self.processes, self.folder, self.console)
        phase.fit()
        mask, without = search.mask(), search.without()
        if without:
            whole, program = program, program.without_blocks(without)
            model, mask = program.module, Mask(carried(whole.prunable, program.prunable, mask, missing=True))
            self._say(f"Without the blocks {', '.join(without)}")
        kept = program.flops(mask) / base.flops()
        config = self.config
        if options.budget:
            config = config.updated(epochs=budget_epochs(config.epochs, kept))
        self._say(
            f"{kept:.1%} of the FLOPs are kept; the compact network trains from new weights, {config.epochs} epochs"
        )
        network, method = Compact(program, model, mask, config.seed, options.init), Fixed(mask, kept)
        shared = (self.processes, self.folder, self.console, phase.length, self.teacher)
        engine = Engine(config, self.task, network, method, *shared)
        engine.fit()
        return Outcome(program, mask, without, phase.earlier_seconds + engine.earlier_seconds)

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)
