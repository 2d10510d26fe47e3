from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from training.chain.keys import make_recipe
from training.learning import Network, Sgd, by_sgd, trained_network
from training.params import load_params
from training.recipe.common.loop import train_slice
from training.recipe.common.recipe import Recipe
from training.recipe.common.schedule import Epoch, learning_rate, make_epoch, sources, step_bounds
from training.recipe.common.step import Step
from training.recipe.network.classifier import build_network

PARAMS = load_params(Path(__file__).parents[1] / "profiles/digits.yaml")
DIGITS = by_sgd(PARAMS.training)


def network_of(name: str) -> Network:
    return trained_network(PARAMS.network).model_copy(update={"name": name})


def recipe_of(training: Sgd, *, seed: int = 0, shard_id: int = 0, slices: int = 3) -> Recipe:
    recipe = make_recipe(PARAMS, shard_id, 3, "none")
    return recipe.model_copy(update={"training": training, "seed": seed, "slices": slices})


def epoch_of(count: int, *, seed: int = 0, **training: object) -> Epoch:
    generator = torch.Generator().manual_seed(seed)
    return make_epoch(with_values(**training), 0, count=count, side=16, slice_id=0, slices=3, generator=generator)


def sizes(count: int, batch_size: int) -> list[int]:
    return [stop - start for start, stop in step_bounds(count, batch_size)]


def with_values(**values: object) -> Sgd:
    return DIGITS.model_copy(update=values)


@given(st.integers(2, 300), st.integers(2, 64))
def test_every_sample_comes_once_an_epoch_and_no_step_is_of_one(count: int, batch_size: int) -> None:
    epoch = epoch_of(count, batch_size=batch_size)
    assert sorted(epoch.order.tolist()) == list(range(count))
    assert [position for start, stop in epoch.bounds for position in range(start, stop)] == list(range(count))
    steps = sizes(count, batch_size)
    assert all(2 <= size <= batch_size + 1 for size in steps)
    assert set(steps[:-1]) <= {batch_size}  # one shape, and at most one remainder
    assert len(epoch.learning_rates) == len(steps)


def test_the_last_step_is_smaller_not_dropped() -> None:
    assert sizes(10, 4) == [4, 4, 2]


def test_a_last_step_of_one_joins_the_one_before() -> None:
    assert sizes(9, 4) == [4, 5]


def test_a_sample_all_alone_comes_twice() -> None:
    epoch = epoch_of(1, batch_size=4)
    assert (epoch.order.tolist(), epoch.bounds) == ([0, 0], [(0, 2)])


def test_an_epoch_is_that_of_the_generator() -> None:
    assert epoch_of(50, seed=1).order.tolist() == epoch_of(50, seed=1).order.tolist()
    assert epoch_of(50, seed=1).order.tolist() != epoch_of(50, seed=2).order.tolist()
    shifted = epoch_of(50, seed=1, augmentation="flip-crop")
    assert shifted.rows.tolist() == epoch_of(50, seed=1, augmentation="flip-crop").rows.tolist()
    assert shifted.rows.tolist() != shifted.columns.tolist()


def test_shifts_reach_an_eighth_and_half_of_the_images_are_mirrored() -> None:
    epoch = epoch_of(2000, augmentation="flip-crop")
    assert set(epoch.rows.tolist()) == set(epoch.columns.tolist()) == {-2, -1, 0, 1, 2}
    assert abs(int(epoch.flips.sum()) - 1000) < 5 * 22.4  # sd = sqrt(2000 / 4)


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
        recipe_of(DIGITS, seed=seed, shard_id=shard_id).seed_for(slice_id, purpose)
        for seed, shard_id, slice_id, purpose in [
            (0, 0, 0, "order"),
            (1, 0, 0, "order"),
            (0, 1, 0, "order"),
            (0, 0, 1, "order"),
            (0, 0, 0, "dropout"),
        ]
    }
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def shift_and_flip(images: Tensor, rows: Tensor, columns: Tensor, flips: Tensor) -> Tensor:
    """The images of an epoch of one step, in their own order."""
    count = len(images)
    epoch = Epoch(torch.arange(count), rows, columns, flips, [(0, count)], [0.1], augmented=True)
    ((batch, _, _),) = epoch.batches(images, torch.zeros(count))
    return batch


def test_an_image_is_shifted_and_mirrored_as_told() -> None:
    # Pixel value = 16 * row + column.
    image = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(3, 16, 16, 3)
    rows, columns, flips = torch.tensor([2, 0, 0]), torch.tensor([-1, 0, 1]), torch.tensor([False, True, True])
    first, second, third = shift_and_flip(image, rows, columns, flips)[:, 8, 8, 0].int().tolist()
    assert first == 16 * 10 + 7
    assert second == 16 * 8 + 7  # column 8 of 16 is column 7 in the mirror
    assert third == 16 * 8 + 8


def test_what_is_shifted_in_is_reflected() -> None:
    image = torch.arange(8, dtype=torch.uint8).view(1, 1, 8, 1).expand(2, 8, 8, 3)
    shifted = shift_and_flip(image, torch.zeros(2, dtype=torch.int64), torch.tensor([-1, 1]), torch.zeros(2) > 0)
    assert shifted[0, 0, :, 0].tolist() == [1, 0, 1, 2, 3, 4, 5, 6]
    assert shifted[1, 0, :, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 6]


def test_shifting_changes_no_input() -> None:
    images = torch.randint(0, 256, (20, 8, 8, 3), dtype=torch.uint8)
    before = images.clone()
    shifted = shift_and_flip(
        images, torch.ones(20, dtype=torch.int64), torch.ones(20, dtype=torch.int64), torch.ones(20) > 0
    )
    assert torch.equal(images, before)
    assert shifted.dtype == torch.uint8


@given(st.integers(2, 30), st.data())
def test_every_pixel_comes_from_where_the_definition_says(side: int, data: st.DataObject) -> None:
    reach = st.integers(1 - side, side - 1)
    row, column, flip = data.draw(reach), data.draw(reach), data.draw(st.booleans())
    rows, columns = sources(torch.tensor([row]), torch.tensor([column]), torch.tensor([flip]), side)

    def reflected(position: int) -> int:
        return 2 * (side - 1) - position if position >= side else abs(position)

    shifted = [reflected(position + column) for position in range(side)]
    assert rows.tolist() == [[reflected(position + row) for position in range(side)]]
    assert columns.tolist() == [shifted[::-1] if flip else shifted]


@pytest.mark.parametrize("augmentation", ["none", "flip-crop"])
def test_an_epochs_batches_are_its_samples_in_its_order(augmentation: str) -> None:
    epoch = epoch_of(10, batch_size=4, augmentation=augmentation)
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 16, 16, 3)
    batches = list(epoch.batches(images, torch.arange(10) + 100))
    assert torch.cat([batch[:, 5, 5, 0] for batch, _, _ in batches]).tolist() == epoch.order.tolist()
    assert torch.cat([labels for _, labels, _ in batches]).tolist() == (epoch.order + 100).tolist()
    assert [rate for _, _, rate in batches] == epoch.learning_rates


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
    training: Sgd,
    slice_id: int = 0,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[float]:
    images = torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1).expand(count, 8, 8, 3)
    labels = torch.arange(count) % 3
    step = Step(network, training)
    return train_slice(step, images, labels, recipe_of(training), slice_id, on_batch=on_batch or (lambda *_: None))


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
    network = build_network(network_of(name), 3)
    losses = train(network, count, with_values(epochs_per_slice=1, batch_size=2))
    assert len(losses) == 1
    assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())


def test_the_same_slice_is_the_same_bits_and_another_slice_is_not() -> None:
    def weights(slice_id: int) -> Tensor:
        torch.manual_seed(0)
        network = build_network(network_of("resnet18"), 3)
        torch.manual_seed(123 + slice_id)  # what came before must not matter
        train(network, 12, with_values(epochs_per_slice=1, batch_size=4, schedule="constant"), slice_id)
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, False)])
def test_the_optimiser_is_torchs_sgd(momentum: float, nesterov: bool) -> None:
    training = with_values(
        epochs_per_slice=2, batch_size=4, momentum=momentum, nesterov=nesterov, schedule="constant", learning_rate=0.1
    )
    torch.manual_seed(0)
    ours, theirs = (build_network(network_of("resnet9"), 3) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    train(ours, 10, training)

    # The same batches, by the optimiser as a class.
    theirs.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        theirs.parameters(), 0.1, momentum, nesterov=nesterov, weight_decay=training.weight_decay
    )
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 8, 8, 3)
    labels = torch.arange(10) % 3
    generator = torch.Generator().manual_seed(recipe_of(training).seed_for(0, "order"))
    for number in range(2):
        epoch = make_epoch(training, number, count=10, side=8, slice_id=0, slices=3, generator=generator)
        for start, stop in epoch.bounds:
            batch = epoch.order[start:stop]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(theirs(images[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_a_parameter_without_a_gradient_is_an_error() -> None:
    network = Recorder()
    network.unused = nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="1 of 2 parameters have no gradient"):
        train(network, 4, DIGITS)


def test_a_loss_that_is_no_longer_finite_stops_the_training() -> None:
    network = Recorder()
    network.bias.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="loss is nan in shard 0, slice 0, epoch 0"):
        train(network, 4, DIGITS)
