"""One step of training: forward, backward and SGD on one batch.

The optimiser is torch's SGD as a function: its class imports torch's compiler, a second for each process.
Letters: n images of a batch, N of a shard, H = W their side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.sgd import sgd

from training.learning import Sgd


class Step:
    """Trains ``network`` in place, a batch a call. Made when the network is on its device."""

    def __init__(self, network: nn.Module, training: Sgd) -> None:
        self.network = network.to(memory_format=torch.channels_last)  # as the images are laid out
        self.training = training
        self.parameters: list[Tensor] = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.momenta: list[Tensor | None] = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.on_cuda = self.parameters[0].is_cuda

    def forget_momentum(self) -> None:
        """Each slice starts without any."""
        for momentum in self.momenta:
            assert momentum is not None
            momentum.zero_()  # in place: a recorded step knows where it is

    def __call__(self, images: Tensor, labels: Tensor, rate: float | Tensor) -> Tensor:
        """One step on (n, H, W, 3) uint8 images and their (n,) int64 labels; the batch's mean loss, a number.

        Raises ValueError when a parameter has no gradient: those after it would get that of another one.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.training.precision == "bf16"):
            logits = self.network(images)
        loss = cross_entropy(logits.float(), labels, label_smoothing=self.training.label_smoothing)
        self.network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._descend(rate)
        return loss.detach()

    @torch.no_grad()
    def _descend(self, rate: float | Tensor) -> None:
        gradients = [gradient for parameter in self.parameters if (gradient := parameter.grad) is not None]
        missing, every = len(self.parameters) - len(gradients), len(self.parameters)
        if missing:
            raise ValueError(f"{missing} of {every} parameters have no gradient")
        sgd(
            self.parameters,
            gradients,
            self.momenta,
            fused=self.on_cuda or None,  # one kernel, and the only one that takes the rate from the device
            lr=rate,
            momentum=self.training.momentum,
            nesterov=self.training.nesterov,
            weight_decay=self.training.weight_decay,
            dampening=0,
            maximize=False,
        )


class RecordedStep:
    """A step whose kernels for a full batch are recorded once, as a CUDA graph, and replayed.

    A GPU's host takes several times as long to launch a small network's kernels one by one as the GPU takes to run
    them. A batch of another size, the last of an epoch, is not replayed. Recording changes nothing: weights and
    statistics are what they were.
    """

    def __init__(self, step: Step, images: Tensor) -> None:
        """``images``: (N, H, W, 3), what batches will be taken from; its content does not matter."""
        self._step = step
        count, device = step.training.batch_size, images.device
        self._images = torch.zeros((count, *images.shape[1:]), dtype=torch.uint8, device=device)
        self._labels = torch.zeros(count, dtype=torch.int64, device=device)
        self._rate = torch.zeros((), device=device)
        before = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):  # once unrecorded: libraries choose kernels and allocate in their first call
            step(self._images, self._labels, self._rate)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self._loss = step(self._images, self._labels, self._rate)
        torch.cuda.current_stream(device).wait_stream(stream)
        self.network.load_state_dict(before)
        self.forget_momentum()

    @property
    def network(self) -> nn.Module:
        return self._step.network

    def forget_momentum(self) -> None:
        self._step.forget_momentum()

    def __call__(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        """As ``Step``; the loss is overwritten by the next call."""
        if len(labels) != len(self._labels):
            return self._step(images, labels, rate)
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._rate.fill_(rate)
        self._graph.replay()
        return self._loss


AnyStep = Step | RecordedStep


def make_step(network: nn.Module, training: Sgd, images: Tensor) -> AnyStep:
    """The step for batches of (N, H, W, 3) images: recorded on a GPU, where there is a full batch of them."""
    step = Step(network, training)
    return RecordedStep(step, images) if images.is_cuda and len(images) >= training.batch_size else step
