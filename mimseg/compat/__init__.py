"""Stand-ins for what an installed library lacks, each with its reason and when it can go.

Nothing here imports torch or an OpenMMLab library. Each mend waits until the module that it is
about is imported, so `import mimseg` stays light and a mend that nobody needs costs nothing.

    mmcv_ext.py              the ops of (Cascade) Mask R-CNN, for an mmcv without compiled ones
    config_bases.py          `mmseg::` and `mimseg::` in a config's `_base_`
    cpu_distributed.py       `--launcher pytorch` on a machine without a GPU
    old_names.py             modules by the names that they had before version 0.2
    config_text.py           a config's text, which mmengine formats five times
    half_precision_boxes.py  boxes that mmdet would round to half precision under autocast
    guarded_reader.py        checkpoints, which mmengine would unpickle and execute
"""

from mimseg.compat.import_hooks import when_imported
from mimseg.compat.mmcv_ext_finder import install_finder
from mimseg.compat.old_names import install_old_names


def install() -> None:
    """Install every stand-in. Called by `import mimseg`; safe to call again.

    A library that is already imported is mended at once, any other one when it is imported.
    """
    install_finder()
    install_old_names()
    mends = "mimseg.compat"
    when_imported("mmengine.config.utils", f"{mends}.config_bases:name_mmseg")
    when_imported("mmengine.config.config", f"{mends}.config_bases:find_mimseg")
    when_imported("mmengine.dist.utils", f"{mends}.cpu_distributed:start_with_gloo")
    when_imported("mmengine.model.wrappers.distributed", f"{mends}.cpu_distributed:wrap_on_cpu")
    when_imported("mmengine.runner.checkpoint", f"{mends}.guarded_reader:guard_loader")
    when_imported("mmengine.infer.infer", f"{mends}.guarded_reader:guard_inferencer")
    when_imported("yapf.yapflib.yapf_api", f"{mends}.config_text:format_once")
    dense_head = "mmdet.models.dense_heads.base_dense_head"
    when_imported(dense_head, f"{mends}.half_precision_boxes:decode_in_float32")
    extractor = "mmdet.models.roi_heads.roi_extractors.single_level_roi_extractor"
    when_imported(extractor, f"{mends}.half_precision_boxes:pool_in_float32")
