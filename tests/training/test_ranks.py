"""Two processes learn what one learns that computes both of their parts."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sam.checkpoints import load_training_state
from sam.errors import UsageError
from sam.training.config import Phase, TrainingConfig
from sam.training.data import PackedSet
from sam.training.ranks import ALONE, Ranks, joined, local_device
from sam.training.trainer import read_log
from tests.training.kit import model_of, plain_config, trainer_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def as_before(one_thread: None) -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


def config_of(accumulate: int = 1) -> TrainingConfig:
    return plain_config(
        phases=(Phase(4, 64, 4),), accumulate=accumulate, checkpoint_every=2, validate_every=2
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def train_as(rank: int, port: int, shapes: PackedSet, folder: Path, stop_after: int) -> None:
    """One of two processes, in the environment that torchrun gives it; the second may be asked to stop."""
    environment = {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environment.items():
            patch.setenv(key, value)
        torch.set_num_threads(1)
        with joined(CPU) as ranks:
            assert (ranks.rank, ranks.count, ranks.leads) == (rank, 2, rank == 0)
            trainer = trainer_of(
                model_of("vit"), shapes, folder, config_of(), ranks=ranks,
                validate=lambda model: {"box": 0.5},
            )  # fmt: skip
            trainer.run(should_stop=lambda: rank == 1 and trainer.step == stop_after)
            torch.save(trainer.model.state_dict(), folder / f"rank{rank}.pt")


def two_processes(shapes: PackedSet, folder: Path, stop_after: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    # Fresh interpreters, as torchrun starts them: a fork of this process, with PyTorch's threads and locks
    # as earlier tests left them, may hang, and once did.
    context, port = multiprocessing.get_context("spawn"), free_port()
    started = [
        context.Process(target=train_as, args=(rank, port, shapes, folder, stop_after)) for rank in (0, 1)
    ]
    for process in started:
        process.start()
    try:
        for process in started:
            process.join(300)
        assert [process.exitcode for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()


def test_two_processes_and_one_with_two_parts(shapes: PackedSet, tmp_path: Path) -> None:
    two_processes(shapes, tmp_path / "two", stop_after=3)
    assert load_training_state(tmp_path / "two/state.pt")["step"] == 3  # asked of one, done by both
    two_processes(shapes, tmp_path / "two")  # goes on
    one = trainer_of(model_of("vit"), shapes, tmp_path / "one", config_of(accumulate=2))
    one.run()
    state = load_training_state(tmp_path / "two/state.pt")
    assert (state["step"], state["parts"], state["best"]["waited"]) == (4, 2, 1)
    other = load_training_state(tmp_path / "two/rank1.pt")
    for name, value in one.model.state_dict().items():
        assert torch.equal(state["model"][name], other[name]), name  # both the same, to the last bit
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-5)
    logs = [
        [row["prompts"] for row in read_log(tmp_path / name / "log.jsonl") if "prompts" in row]
        for name in ("two", "one")
    ]
    assert len(logs[0]) == 4 and logs[0] == pytest.approx(logs[1], rel=1e-3)
    with pytest.raises(UsageError, match=r"a run of 2 parts a step .*, not 1") as caught:
        trainer_of(model_of("vit"), shapes, tmp_path / "two", config_of()).run()
    assert caught.value.field == "accumulate"


def test_a_batch_that_cannot_be_shared(shapes: PackedSet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a batch of 4 is not divided by 3 processes of 1") as caught:
        trainer_of(model_of("vit"), shapes, tmp_path, config_of(), ranks=Ranks(0, 3))
    assert caught.value.field == "phases"


def test_alone() -> None:
    with joined(CPU, {}) as ranks:
        assert ranks is ALONE and ranks.leads
    assert ALONE.agree("x") == "x" and ALONE.any(True, CPU) and not ALONE.any(False, CPU)
    assert ALONE.mean({"a": 1.0}, CPU) == {"a": 1.0}
    ALONE.wait()


def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert local_device("auto", {"LOCAL_RANK": "3"}) == "cuda:3"
    assert local_device("cuda:1", {"LOCAL_RANK": "3"}) == "cuda:1"
    assert local_device("cpu", {"LOCAL_RANK": "3"}) == "cpu"
    assert local_device("auto", {}) == "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert local_device("auto", {"LOCAL_RANK": "3"}) == "auto"
