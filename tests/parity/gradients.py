"""Comparing the gradients of two models of the same weights."""

import torch


def assert_same_gradients(model, reference, names):
    """Every trained parameter of `model` has the gradient of `names[its name]` in `reference`.

    None of the reference's trained parameters is left out.
    """
    gradients = dict(reference.named_parameters())
    compared = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(
                parameter.grad, gradients[names[name]].grad, rtol=1e-4, atol=1e-6, msg=name
            )
            compared += 1
    assert compared == sum(p.requires_grad for p in reference.parameters())
