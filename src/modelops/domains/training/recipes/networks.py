"""A network that classifies rows of numbers, and how several processes train it together.

Source of the averaging of gradients: https://docs.pytorch.org/docs/stable/notes/ddp.html
"""

import copy
import hashlib
import io
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as group
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from modelops.domains.training.recipes.frames import Examples

if TYPE_CHECKING:
    from modelops.domains.training.recipe import JobContext, TrackedRun
    from modelops.domains.training.recipes.torch_classification import NetworkParameters


@dataclass(frozen=True)
class Lesson:
    """What to learn, validate and test with.

    Attributes:
        rows: float32, shape (rows, features); NaN where a value is missing.
        classes: int64, shape (rows,): the place of each row's class in `names`.
        names: The classes, sorted.
        train: Which rows to learn from; `validation` and `test` are others.
    """

    rows: Any
    classes: Any
    names: list[Any]
    train: Any
    validation: Any
    test: Any

    @classmethod
    def of(cls, examples: Examples, test_share: float, validation_share: float, seed: int) -> "Lesson":
        """Divide examples, each class by the same shares; at least one row of each class is for each purpose.

        Each class has three rows or more.
        """
        names, classes = np.unique(examples.target.to_numpy(), return_inverse=True)
        random = np.random.default_rng(seed)
        parts: dict[str, list[Any]] = {"test": [], "validation": [], "train": []}
        for number in range(len(names)):
            mixed = random.permutation(np.flatnonzero(classes == number))
            first = min(max(1, round(test_share * len(mixed))), len(mixed) - 2)
            second = min(first + max(1, round(validation_share * len(mixed))), len(mixed) - 1)
            for name, part in zip(parts, np.split(mixed, [first, second]), strict=True):
                parts[name].append(part)
        divided = {name: np.sort(np.concatenate(part)) for name, part in parts.items()}
        return cls(
            examples.features.to_numpy(np.float32, copy=True), classes.astype(np.int64), names.tolist(), **divided
        )


class Network(nn.Module):  # type: ignore[misc]  # of a library that is not followed
    """A multilayer perceptron on rows that it standardises itself, by the mean and the deviation of those it learned from;
    a missing value counts as the mean. Gives logits, shape (rows, classes)."""

    def __init__(self, lesson: Lesson, hidden: list[int]) -> None:
        super().__init__()
        known = lesson.rows[lesson.train].astype(np.float64)
        counts = np.maximum(1, (~np.isnan(known)).sum(axis=0))
        mean = np.nansum(known, axis=0) / counts
        deviation = np.sqrt(np.nansum((known - mean) ** 2, axis=0) / counts)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(np.where(deviation > 0, deviation, 1.0), dtype=torch.float32))
        widths = [lesson.rows.shape[1], *hidden]
        layers: list[Any] = []
        for taken, given in pairwise(widths):
            layers += [nn.Linear(taken, given), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], len(lesson.names)))

    def forward(self, rows: Any) -> Any:
        """Return the logits of rows, shape (rows, features)."""
        return self.layers(torch.nan_to_num((rows - self.mean) / self.scale))


class Answering(nn.Module):  # type: ignore[misc]  # of a library that is not followed
    """A network that names classes: itself where they are whole numbers, else their places in order. Shape (rows,)."""

    def __init__(self, network: Network, names: list[Any]) -> None:
        super().__init__()
        self.network = network
        numbers = names if all(isinstance(name, int) for name in names) else range(len(names))
        self.register_buffer("names", torch.tensor([int(number) for number in numbers]))

    def forward(self, rows: Any) -> Any:
        """Return the class of each row."""
        return self.names[self.network(rows).argmax(1)]


class Training:
    """The training of a network in this process of the job's group, up to the same weights in each."""

    def __init__(self, job: "JobContext[NetworkParameters]", lesson: Lesson) -> None:
        self.job, self.lesson = job, lesson
        parameters = job.parameters
        has_gpu = "nccl" in str(group.get_backend_config()).lower()
        self.device = torch.device("cuda", torch.cuda.current_device()) if has_gpu else torch.device("cpu")
        torch.manual_seed(parameters.seed)
        self.network = Network(lesson, parameters.hidden).to(self.device)
        self.together = DistributedDataParallel(self.network, device_ids=[self.device.index] if has_gpu else None)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=parameters.learning_rate, weight_decay=parameters.weight_decay
        )
        self.stopping = job.early_stopping(patience=parameters.patience)
        self.best = copy.deepcopy(self.network.state_dict())
        rows, classes = (torch.from_numpy(part[lesson.train]) for part in (lesson.rows, lesson.classes))
        mine = TensorDataset(rows, classes)
        self.sampler = DistributedSampler(mine, job.world_size, job.rank, shuffle=True, seed=parameters.seed)
        share = max(1, parameters.batch_size // job.world_size)
        self.batches = DataLoader(mine, batch_size=share, sampler=self.sampler)

    def learn(self, run: "TrackedRun") -> int:
        """Go on from the last checkpoint, until the epochs are over or nothing becomes better; return how many there were.

        The weights of the best epoch are those that count.
        """
        epoch = self._restore()
        epochs = self.job.parameters.epochs
        while epoch < epochs and not self.stopping.stop:
            loss = self._epoch(epoch)
            validated = self._agreed(self._loss_on(self.lesson.validation))
            self.stopping.update(validated, epoch)
            if self.stopping.best_step == epoch:
                self.best = copy.deepcopy(self.network.state_dict())
            run.log_metrics({"loss": loss, "validation_loss": validated}, step=epoch)
            epoch += 1
            if self.job.rank == 0:
                self.job.log(f"epoch {epoch}: loss {loss:.6f}, validation loss {validated:.6f}")
                self.job.checkpoint(self._state(epoch), epoch)
            self.job.progress(epoch, epochs, "epochs")
        self.network.load_state_dict(self.best)
        return epoch

    def test(self) -> dict[str, float]:
        """Return how good the network is on the rows to test with."""
        right = self._logits(self.lesson.test).argmax(1).cpu().numpy() == self.lesson.classes[self.lesson.test]
        return {"accuracy": float(right.mean()), "log_loss": self._loss_on(self.lesson.test)}

    def finished(self) -> Any:
        """Return the module that names classes."""
        return Answering(copy.deepcopy(self.network).cpu(), self.lesson.names).eval()

    def answers(self) -> Any:
        """Return the classes that it names for all rows, shape (rows,)."""
        with torch.no_grad():
            return self.finished()(torch.from_numpy(self.lesson.rows)).numpy()

    def digest(self) -> str:
        """Return the SHA-256 of the weights."""
        found = hashlib.sha256()
        for name, values in self.network.state_dict().items():
            found.update(name.encode() + values.cpu().numpy().tobytes())
        return f"sha256:{found.hexdigest()}"

    def _epoch(self, epoch: int) -> float:
        """Learn from each row once; return the mean loss of all processes."""
        self.sampler.set_epoch(epoch)
        total = torch.zeros(2, device=self.device)
        for rows, classes in self.batches:
            self.optimizer.zero_grad()
            loss = cross_entropy(self.together(rows.to(self.device)), classes.to(self.device))
            loss.backward()
            self.optimizer.step()
            total += torch.stack([loss.detach() * len(rows), torch.tensor(float(len(rows)), device=self.device)])
        group.all_reduce(total)
        return float(total[0] / total[1])

    def _agreed(self, value: float) -> float:
        """Return the first process's value in each: what they decide by must be the same to the last bit."""
        told = torch.tensor([value], dtype=torch.float64, device=self.device)
        group.broadcast(told, src=0)
        return float(told[0])

    def _logits(self, which: Any) -> Any:
        with torch.no_grad():
            return self.network(torch.from_numpy(self.lesson.rows[which]).to(self.device))

    def _loss_on(self, which: Any) -> float:
        return float(cross_entropy(self._logits(which).cpu(), torch.from_numpy(self.lesson.classes[which])))

    def _state(self, epoch: int) -> bytes:
        """Return all that the training goes on from."""
        stopping = self.stopping
        kept = io.BytesIO()
        torch.save(
            {
                "epoch": epoch,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "best": self.best,
                "stopping": (stopping.best, stopping.best_step, stopping.waited),
            },
            kept,
        )
        return kept.getvalue()

    def _restore(self) -> int:
        """Go back to the last checkpoint, in each process to the same; return how many epochs it had behind it."""
        last = self.job.restore()
        if last is None:
            return 0
        state = torch.load(io.BytesIO(last.read()), map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        self.stopping.best, self.stopping.best_step, self.stopping.waited = state["stopping"]
        if self.job.rank == 0:
            self.job.log(f"goes on after {state['epoch']} epochs")
        return int(state["epoch"])
