import pytest
import torch

from train.muon import Muon


def test_updates_equal_those_of_torch_optim_muon() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(24, 24), (24, 40), (40, 24), (24, 40)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    gradients = [[torch.randn(s, generator=generator) for s in shapes] for _ in range(3)]
    ends = []
    for build in (
        lambda params: Muon(params, lr=0.01, weight_decay=0.1),
        lambda params: torch.optim.Muon(
            params, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
        ),
    ):
        parameters = [torch.nn.Parameter(tensor.clone()) for tensor in start]
        optimizer = build(parameters)
        for step in gradients:
            for parameter, gradient in zip(parameters, step, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
        ends.append([parameter.detach() for parameter in parameters])
    for ours, theirs, before in zip(*ends, start, strict=True):
        # torch's is rounded to bfloat16 (3 digits) in each of the five iterations.
        assert torch.linalg.norm(ours - theirs) < 0.03 * torch.linalg.norm(theirs - before)


def test_singular_values_of_an_update_are_near_one() -> None:
    parameter = torch.nn.Parameter(torch.zeros(16, 64))
    parameter.grad = torch.randn(16, 64, generator=torch.Generator().manual_seed(1))
    Muon([parameter], lr=1.0 / (0.2 * 8.0)).step()
    values = torch.linalg.svdvals(parameter.detach())
    assert values.min() > 0.6 and values.max() < 1.3


def test_matrices_that_are_made_orthogonal_a_few_at_a_time_get_the_same_updates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = []
    for most in (1 << 26, 2000, 1):
        monkeypatch.setattr("train.muon.MOST_ELEMENTS", most)
        generator = torch.Generator().manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(24, 40, generator=generator)) for _ in "12345"]
        for parameter in parameters:
            parameter.grad = torch.randn(24, 40, generator=generator)
        Muon(parameters, lr=0.1).step()
        ends.append([parameter.detach() for parameter in parameters])
    for others in ends[1:]:
        torch.testing.assert_close(others, ends[0], rtol=1e-6, atol=1e-6)
