"""Features of whole images, in the shape of the image."""

import numpy as np
import pytest
import torch
from PIL import Image

from mimseg.data.transform import Transform
from mimseg.errors import UserError


def test_they_are_what_forward_gives(tiny_vit):
    model = tiny_vit(out_indices=(0, 1, 2), drop_path_rate=0.9).train()
    images = torch.randn(2, 3, 40, 28)
    features = model.features(images, layers=(0, -2, 2))
    assert model.training and not features["patches"].requires_grad
    maps = [x.detach().permute(0, 2, 3, 1) for x in model.eval()(images)]
    assert features["patches"].shape == (2, 5, 4, 48) and features["cls"].shape == (2, 48)
    torch.testing.assert_close(features["patches"], maps[2])
    for layer, expected in zip((0, -2, 2), maps, strict=True):
        torch.testing.assert_close(features["layers"][layer], expected)
    model.out_type = "cls_token"
    torch.testing.assert_close(features["cls"], model(images)[2].detach())
    assert set(model.features(images)) == {"patches", "cls"}


def test_without_a_cls_token(tiny_vit):
    assert tiny_vit(with_cls_token=False).features(torch.randn(1, 3, 32, 32))["cls"] is None


def test_images_go_through_the_transform(tiny_vit, tmp_path):
    model = tiny_vit(img_size=(32, 48))
    array = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    images = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(array), array]
    patches = model.features(images)["patches"]  # ImageNet's mean and std, its own size
    assert patches.shape == (4, 4, 6, 48)
    torch.testing.assert_close(patches, patches[:1].expand_as(patches))
    for one in (*images, [Transform(size=(32, 48))(array)]):
        torch.testing.assert_close(model.features(one)["patches"], patches[:1])

    model.transform = Transform((0, 0, 0), (1, 1, 1))
    raw = torch.from_numpy(array).permute(2, 0, 1)[None] / 255
    features = model.features(images[:2])["patches"]
    assert features.shape == (2, 7, 9, 48)
    torch.testing.assert_close(features[:1], model.features(raw)["patches"])
    with pytest.raises(UserError, match="one size.*transform.size"):
        model.features([array, array[:40]])


def test_what_is_no_batch(tiny_vit):
    model = tiny_vit()
    for images in (torch.zeros(3, 32, 32), torch.zeros(1, 1, 32, 32)):
        with pytest.raises(UserError, match=r"tensor of shape.*\(B, 3, H, W\)"):
            model.features(images)
    with pytest.raises(UserError, match="one or more images"):
        model.features([])
    with pytest.raises(UserError, match="layer = 3"):
        model.features(torch.zeros(1, 3, 32, 32), layers=[3])
