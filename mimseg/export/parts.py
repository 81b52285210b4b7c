"""Chooses the part of a model to export: its logits, or its backbone's maps."""

from __future__ import annotations

from torch import Tensor, nn

from mimseg.errors import UserError

# an ancestor of the config's model class -> the parts it offers, the default first
_OFFERS = {
    "BaseClassifier": ("classifier", "features"),
    "BaseSegmentor": ("segmentor", "features"),
    "BaseDetector": ("features",),
}


class _Part(nn.Module):
    """Images (B, C, H, W) to a tuple of tensors, as torch.export wants it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


class _Classifier(_Part):
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return _tuple(self.model(images, mode="tensor"))


class _Segmentor(_Part):
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        # the logits of a whole image, which mmseg brings to `img_shape`
        return _tuple(self.model.encode_decode(images, [dict(img_shape=images.shape[2:])]))


class _Features(_Part):
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return _tuple(self.model(images))


PARTS = {"classifier": _Classifier, "features": _Features, "segmentor": _Segmentor}
_AXES = {  # what the outputs' axes must be
    "classifier": ("logits", ("batch", "classes")),
    "features": ("features", ("batch", "channels", "h", "w")),
    "segmentor": ("logits", ("batch", "classes", "height", "width")),
}


def choose_part(asked: str, model_type: type) -> str:
    """The part to export of a model of this class.

    Raises:
        UserError: the class does not offer it; or it is a detector, and nothing was asked for.
    """
    ancestors = {cls.__name__ for cls in model_type.__mro__}
    offers = next((o for name, o in _OFFERS.items() if name in ancestors), ("features",))
    if asked == "auto" and "BaseDetector" in ancestors:
        raise UserError(
            "--what",
            asked,
            expected=f"a classifier, a segmentor or a backbone; {model_type.__name__} is a "
            "detector, whose boxes are not exported",
            fix="--what features exports its backbone",
        )
    if asked == "auto":
        return offers[0]
    if asked not in offers:
        names = " or ".join(repr(name) for name in offers)
        raise UserError("--what", asked, expected=f"{names} of a {model_type.__name__}")
    return asked


def output_names(what: str, outputs: tuple[Tensor, ...]) -> tuple[str, ...]:
    """The outputs' names: logits, or features_0, features_1, ...

    Raises:
        UserError: the model gives something else.
    """
    name, axes = _AXES[what]
    wrong = [f for f in outputs if not isinstance(f, Tensor) or f.ndim != len(axes)]
    if wrong or not outputs or (what != "features" and len(outputs) > 1):
        shapes = [tuple(o.shape) if isinstance(o, Tensor) else type(o).__name__ for o in outputs]
        raise UserError(
            "model",
            shapes,
            expected=f"{name} ({', '.join(axes)})",
            fix="another --what, or the backbone's option for feature maps",
        )
    return (name,) if what != "features" else tuple(f"{name}_{i}" for i in range(len(outputs)))


def _tuple(outputs: object) -> tuple:
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
