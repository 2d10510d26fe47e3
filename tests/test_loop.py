from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from training.loop import batches, flip_crop, learning_rate, seed_for, train_slice
from training.network import build_network
from training.params import Training, load_params

DIGITS = load_params(Path(__file__).parents[1] / "profiles/digits.yaml").training


def with_values(**values: object) -> Training:
    return DIGITS.model_copy(update=values)


@given(st.integers(2, 300), st.integers(2, 64))
def test_every_sample_comes_once_an_epoch_and_no_batch_is_of_one(count: int, batch_size: int) -> None:
    parts = list(batches(count, batch_size, torch.Generator().manual_seed(0)))
    assert sorted(torch.cat(parts).tolist()) == list(range(count))
    assert all(2 <= len(part) <= batch_size + 1 for part in parts)


def test_the_last_batch_is_smaller_not_dropped() -> None:
    assert [len(part) for part in batches(10, 4, torch.Generator())] == [4, 4, 2]


def test_a_last_batch_of_one_joins_the_one_before() -> None:
    assert [len(part) for part in batches(9, 4, torch.Generator())] == [4, 5]


def test_a_picture_all_alone_comes_twice() -> None:
    assert [part.tolist() for part in batches(1, 4, torch.Generator())] == [[0, 0]]


def test_the_order_is_that_of_the_generator() -> None:
    def order(seed: int) -> list[int]:
        return torch.cat(list(batches(50, 8, torch.Generator().manual_seed(seed)))).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_constant_schedule_is_constant() -> None:
    training = with_values(schedule="constant", learning_rate=0.5)
    assert {learning_rate(training, r, 4, share) for r in range(4) for share in (0, 0.5, 0.99)} == {0.5}


def test_one_cycle_rises_to_the_peak_in_a_fifth_and_falls_to_zero() -> None:
    # 4 slices weigh 1 + 2 + 3 + 4 = 10. A fifth is 2: slice 0, and half of slice 1.
    training = with_values(schedule="one-cycle", learning_rate=0.8)
    assert learning_rate(training, 0, 4, 0) == 0
    assert learning_rate(training, 0, 4, 0.5) == pytest.approx(0.2)  # 0.5 of 2
    assert learning_rate(training, 1, 4, 0) == pytest.approx(0.4)  # 1 of 2
    assert learning_rate(training, 1, 4, 0.5) == pytest.approx(0.8)
    assert learning_rate(training, 3, 4, 0) == pytest.approx(0.4)  # 4 of the last 8 are left
    assert learning_rate(training, 3, 4, 1) == pytest.approx(0)


@given(st.integers(1, 20), st.data())
def test_the_learning_rate_is_never_negative_nor_above_the_peak(slices: int, data: st.DataObject) -> None:
    slice_id = data.draw(st.integers(0, slices - 1))
    share = data.draw(st.floats(0, 1, exclude_max=True))
    assert 0 <= learning_rate(DIGITS, slice_id, slices, share) <= DIGITS.learning_rate * (1 + 1e-12)


def test_seeds_differ_by_seed_shard_slice_and_purpose() -> None:
    seeds = {
        seed_for(*key)
        for key in [(0, 0, 0, "order"), (1, 0, 0, "order"), (0, 1, 0, "order"), (0, 0, 1, "order"), (0, 0, 0, "pixels")]
    }
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_flip_crop_shifts_by_an_eighth_at_most_and_mirrors() -> None:
    # Pixel value = 16 * row + column; side 16, so shifts of -2 to 2.
    picture = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(200, 16, 16, 3)
    centre = flip_crop(picture, torch.Generator().manual_seed(0))[:, 8, 8, 0].int()
    rows, columns = centre // 16, centre % 16
    assert set(rows.tolist()) == {6, 7, 8, 9, 10}
    # Unmirrored column 8 + shift, mirrored column 7 + shift.
    assert set(columns.tolist()) == set(range(5, 11))


def test_flip_crop_invents_no_pixel_and_changes_no_input() -> None:
    picture = torch.randint(0, 256, (20, 8, 8, 3), dtype=torch.uint8)
    before = picture.clone()
    cropped = flip_crop(picture, torch.Generator().manual_seed(0))
    assert torch.equal(picture, before)
    assert cropped.dtype == torch.uint8
    for one, whole in zip(cropped, picture, strict=True):
        assert {tuple(pixel) for pixel in one.view(-1, 3).tolist()} <= {
            tuple(pixel) for pixel in whole.view(-1, 3).tolist()
        }


class Recorder(nn.Module):
    """Notes which pictures it is shown, whether in training mode, and learns one number."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(3))
        self.seen: list[int] = []
        self.modes: set[bool] = set()

    def forward(self, images: Tensor) -> Tensor:
        self.seen += images[:, 0, 0, 0].tolist()
        self.modes.add(self.training)
        return self.bias.expand(len(images), 3)


def train(
    network: nn.Module,
    count: int,
    training: Training,
    slice_id: int = 0,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[float]:
    images = torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1).expand(count, 8, 8, 3)
    labels = torch.arange(count) % 3
    return train_slice(
        network,
        images,
        labels,
        training,
        seed=0,
        shard_id=0,
        slice_id=slice_id,
        slices=3,
        on_batch=on_batch or (lambda *_: None),
    )


def test_a_slice_trains_on_every_sample_in_every_epoch() -> None:
    network = Recorder()
    losses = train(network, 10, with_values(epochs_per_slice=3, batch_size=4))
    assert sorted(network.seen) == sorted(list(range(10)) * 3)
    assert len(losses) == 3
    assert network.modes == {True}


def test_the_first_loss_is_the_logarithm_of_the_number_of_classes() -> None:
    # Logits are equal at first and one batch holds all: -ln(1/3).
    assert train(Recorder(), 6, with_values(epochs_per_slice=1, batch_size=8)) == [pytest.approx(1.0986123)]


@pytest.mark.parametrize("schedule", ["constant", "one-cycle"])
def test_a_slice_smaller_than_a_batch_takes_its_step(schedule: str) -> None:
    network = Recorder()
    train(network, 4, with_values(epochs_per_slice=1, batch_size=64, schedule=schedule))
    assert not torch.equal(network.bias, torch.zeros(3))


def test_an_empty_union_takes_none() -> None:
    network = Recorder()
    assert train(network, 0, DIGITS) == []
    assert torch.equal(network.bias, torch.zeros(3))


@pytest.mark.parametrize("name", ["resnet9", "resnet18"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_batch_norm_survives_a_last_batch_of_one(name: str, count: int) -> None:
    network = build_network(name, 3)
    losses = train(network, count, with_values(epochs_per_slice=1, batch_size=2))
    assert len(losses) == 1
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


def test_the_same_slice_is_the_same_bits_and_another_slice_is_not() -> None:
    def weights(slice_id: int) -> Tensor:
        torch.manual_seed(0)
        network = build_network("resnet18", 3)
        torch.manual_seed(123 + slice_id)  # what came before must not matter
        train(network, 12, with_values(epochs_per_slice=1, batch_size=4, schedule="constant"), slice_id)
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_a_loss_that_is_no_longer_finite_stops_the_training() -> None:
    network = Recorder()
    network.bias.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="loss is nan in shard 0, slice 0, epoch 0"):
        train(network, 4, DIGITS)
