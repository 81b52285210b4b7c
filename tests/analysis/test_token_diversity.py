"""Token diversity: the definition, with loops, and what it is at its ends."""

import pytest
import torch
import torch.nn.functional as F

import mimseg.analysis
from mimseg.analysis.token_diversity import token_diversity, token_similarity


def by_hand(tokens):
    values = []
    for image in tokens:
        pairs = [
            F.cosine_similarity(a, b, dim=0)
            for i, a in enumerate(image)
            for j, b in enumerate(image)
            if i != j
        ]
        values.append(1 - torch.stack(pairs).mean())
    return torch.stack(values)


def test_the_definition():
    tokens = torch.randn(3, 7, 5) + torch.tensor([3.0, 0, 0, 0, 0])
    torch.testing.assert_close(token_diversity(tokens), by_hand(tokens))
    normed = (tokens - tokens.mean(2, keepdim=True)) / tokens.std(2, correction=0, keepdim=True)
    torch.testing.assert_close(
        token_diversity(tokens, layer_norm=True), by_hand(normed), atol=1e-5, rtol=0
    )
    assert mimseg.analysis.token_diversity is token_diversity  # the function, not its module


def test_the_ends():
    same = torch.randn(1, 1, 8).expand(2, 6, 8) * torch.arange(1.0, 7)[None, :, None]
    torch.testing.assert_close(token_diversity(same), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(token_diversity(torch.eye(6)[None]), torch.ones(1))
    opposite = torch.stack([torch.ones(4), -torch.ones(4)])[None]
    torch.testing.assert_close(token_diversity(opposite), torch.tensor([2.0]))  # 1 + 1 / (L - 1)
    assert torch.isfinite(token_diversity(torch.zeros(1, 3, 4))).all()


def test_a_common_large_channel_hides_the_rest_until_each_token_is_scaled():
    tokens = torch.randn(1, 50, 64)
    tokens[:, :, 0] += 100
    assert float(token_diversity(tokens)) < 0.05
    constant = tokens.clone()
    constant[:, :, 0] = 0
    shifted = constant + 100  # a common offset of all channels: layer norm takes it away
    assert float(token_diversity(shifted)) < 0.05
    assert float(token_diversity(shifted, layer_norm=True)) > 0.9


def test_half_precision_and_autocast_change_little():
    tokens = torch.randn(2, 20, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(token_diversity(tokens), by_hand(tokens))
        similar = token_similarity(tokens, [0])
    torch.testing.assert_close(similar[:, 0, 0], torch.ones(2))
    close = dict(atol=5e-3, rtol=0)
    torch.testing.assert_close(token_diversity(tokens.bfloat16()), by_hand(tokens), **close)


def test_similarity_maps():
    tokens = torch.randn(2, 9, 4)
    found = token_similarity(tokens, [0, 4, 8])
    assert found.shape == (2, 3, 9)
    for number, query in enumerate((0, 4, 8)):
        expected = F.cosine_similarity(tokens[:, query : query + 1], tokens, dim=2)
        torch.testing.assert_close(found[:, number], expected)


@pytest.mark.parametrize("shape", [(2, 1, 8), (4, 8)])
def test_too_few_tokens_are_told(shape):
    with pytest.raises(ValueError, match="at least 2"):
        token_diversity(torch.randn(shape))
