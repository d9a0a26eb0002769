"""Workers of torch's `DataLoader`: each batch once an epoch, epoch after epoch, with a state that goes along."""

import keras
import pytest

from kseq.data import Writer
from kseq.data import open as open_store

if keras.backend.backend() != "torch":
    pytest.skip("torch's own loader", allow_module_level=True)

import torch

STEPS = 9


@pytest.fixture
def batches(tmp_path):
    with Writer(tmp_path / "store", {"x": ("int32", (None,)), "y": "int32"}) as writer:
        for i in range(STEPS * 4):
            writer.write({"x": [i] * (1 + i % 5), "y": i})
    return open_store(tmp_path / "store").batches(batch_size=4, targets="y")


@pytest.mark.parametrize(
    ("workers", "options"), [(0, {}), (2, {}), (2, {"persistent_workers": True})], ids=["none", "two", "lasting"]
)
def test_epochs_follow_one_another(batches, workers, options):
    planned = [[batches.records(i, epoch).tolist() for i in range(STEPS)] for epoch in range(3)]
    loader = torch.utils.data.DataLoader(batches.to_torch(), batch_size=None, num_workers=workers, **options)
    assert [[targets.tolist() for _, targets in loader] for _ in range(3)] == planned
    assert batches.place == (3, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_restored_epoch_goes_on(batches, workers):
    batches.place = 1, 4
    loader = torch.utils.data.DataLoader(batches.to_torch(), batch_size=None, num_workers=workers)
    assert [targets.tolist() for _, targets in loader] == [batches.records(i, 1).tolist() for i in range(4, STEPS)]
    assert batches.state()["epoch"] == 2


def test_a_spawned_worker_has_them_too(batches):
    loader = torch.utils.data.DataLoader(
        batches.to_torch(), batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    assert [targets.tolist() for _, targets in loader] == [batches.records(i, 0).tolist() for i in range(STEPS)]
    assert batches.place == (1, 0)
