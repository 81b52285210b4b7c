"""mimseg's registries: children of mmengine's root that import only the module they are asked for.

`mimseg.X` resolves from any default scope, because mmengine imports `<scope>.registry` on the first
lookup of a scope. Importing this module must stay light: mmengine swallows an ImportError here and
reports "X is not in the registry" instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module

from mmengine import registry as root


class LazyRegistry(root.Registry):
    """A child registry with an index from a class name to the module that defines it.

    Args:
        name: the registry's name, as in mmengine.
        parent: mmengine's root registry of that kind.
        index: class name -> module path. The module registers the class when it is imported.
    """

    def __init__(self, name: str, parent: root.Registry, index: dict[str, str]) -> None:
        super().__init__(name, parent=parent, scope="mimseg")
        self.index = index
        self._imported = True  # nothing to import wholesale: `get` imports name by name

    def get(self, key: str):
        """Return the class registered as `key`, importing its module on first use, or None."""
        scope, name = self.split_scope_key(key)
        if scope in (None, self.scope) and name not in self._module_dict and name in self.index:
            import_module(self.index[name])
        return super().get(key)

    def _register_module(
        self, module: type, module_name: str | list[str] | None = None, force: bool = False
    ) -> None:
        """Register; a class from outside the package also by its plain name, for every scope."""
        super()._register_module(module, module_name, force)
        if not module.__module__.startswith("mimseg."):
            names = module_name or module.__name__
            for name in [names] if isinstance(names, str) else names:
                self.parent._module_dict.setdefault(name, module)


MODELS = LazyRegistry(
    "model",
    root.MODELS,
    {
        "MaskedImageModeling": "mimseg.algorithms.masked_image_modeling",
        "MIMDataPreprocessor": "mimseg.data.preprocessor",
        "ViT": "mimseg.students.vit",
        "FeaturePyramid": "mimseg.dense.feature_pyramid",
        "SimpleFeaturePyramid": "mimseg.dense.simple_feature_pyramid",
        "LinearSegHead": "mimseg.dense.linear_seg_head",
        "PixelTeacher": "mimseg.teachers.pixels",
        "ViTTeacher": "mimseg.teachers.vit",
        "TimmTeacher": "mimseg.teachers.timm",
        "OpenCLIPTeacher": "mimseg.teachers.open_clip",
        "HOGTeacher": "mimseg.teachers.hog",
        "TokenizerTeacher": "mimseg.teachers.tokenizer",
        "EMATeacher": "mimseg.teachers.ema",
        "NoNormalization": "mimseg.normalizations.none",
        "TokenLayerNorm": "mimseg.normalizations.token_layer_norm",
        "L2Normalization": "mimseg.normalizations.l2",
        "BatchNormalization": "mimseg.normalizations.batch",
        "SoftmaxNormalization": "mimseg.normalizations.softmax",
        "PHISNormalization": "mimseg.normalizations.phi_s",
        "Relations": "mimseg.normalizations.relations",
        "LinearHead": "mimseg.heads.linear",
        "DecoderHead": "mimseg.heads.decoder",
        "MLPHead": "mimseg.heads.mlp",
        "CrossAttentionDecoderHead": "mimseg.heads.cross_attention_decoder",
        "RelationHead": "mimseg.heads.relation",
        "PatchAggregationHead": "mimseg.heads.patch_aggregation",
        "SmoothL1Loss": "mimseg.losses.regression",
        "L2Loss": "mimseg.losses.regression",
        "L1Loss": "mimseg.losses.regression",
        "CosineLoss": "mimseg.losses.cosine",
        "CrossEntropyLoss": "mimseg.losses.cross_entropy",
        "InfoNCELoss": "mimseg.losses.cross_entropy",
        "RelationKLLoss": "mimseg.losses.relation_kl",
        "RandomMasking": "mimseg.masking.random",
        "BlockMasking": "mimseg.masking.block",
        "InverseBlockMasking": "mimseg.masking.inverse_block",
        "AttentionMasking": "mimseg.masking.attention",
    },
)
DATASETS = LazyRegistry("dataset", root.DATASETS, {})
TRANSFORMS = LazyRegistry(
    "transform",
    root.TRANSFORMS,
    {
        "LoadImageFromFile": "mimseg.data.loading",
        "MIMViews": "mimseg.data.views",
    },
)
HOOKS = LazyRegistry(
    "hook",
    root.HOOKS,
    {
        "OptimizerHandoverHook": "mimseg.engine.optimizer_handover_hook",
        "CheckpointHook": "mimseg.engine.checkpoint_hook",
        "TeacherUpdateHook": "mimseg.engine.teacher_update_hook",
    },
)
OPTIM_WRAPPERS = LazyRegistry(
    "optim_wrapper",
    root.OPTIM_WRAPPERS,
    {
        "OptimWrapper": "mimseg.engine.optim_wrapper",
        "AmpOptimWrapper": "mimseg.engine.amp_optim_wrapper",
    },
)
OPTIM_WRAPPER_CONSTRUCTORS = LazyRegistry(
    "optimizer wrapper constructor",
    root.OPTIM_WRAPPER_CONSTRUCTORS,
    {"LayerDecayConstructor": "mimseg.engine.layer_decay"},
)
METRICS = LazyRegistry("metric", root.METRICS, {})


def find_parameter(kind: type | None, name: str) -> inspect.Parameter | None:
    """The constructor parameter of that name of a class or of the nearest parent that has one."""
    return next(_parameters(kind, name), None)


def find_default(kind: type | None, name: str, default: object = None) -> object:
    """The nearest default of that parameter; `default` where there is none."""
    values = (parameter.default for parameter in _parameters(kind, name))
    return next((value for value in values if value is not inspect.Parameter.empty), default)


def _parameters(kind: type | None, name: str) -> Iterator[inspect.Parameter]:
    for parent in kind.__mro__ if kind else ():
        init = parent.__dict__.get("__init__")
        if init and name in (parameters := inspect.signature(init).parameters):
            yield parameters[name]
