"""A repository of fakes: tools that write what the real ones write, in milliseconds."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mimseg.cli.benchmark import main

TRAIN = """
import json, os, sys, time
from pathlib import Path
argv = sys.argv[1:]
config = {}
exec(open(argv[0]).read(), config)
folder = Path(argv[argv.index("--work-dir") + 1])
options = {}
if "--cfg-options" in argv:
    for word in argv[argv.index("--cfg-options") + 1:]:
        if word.startswith("--"):
            break
        key, value = word.split("=")
        options[key] = value
init = Path(argv[argv.index("--init") + 1]).name if "--init" in argv else "random"
if "--init" in argv and not (Path(argv[argv.index("--init") + 1]) / "done.json").exists():
    sys.exit("init is not finished")
with open(Path(config["calls"]), "a") as calls:
    call = [folder.name, "--resume" in argv, os.environ["OMP_NUM_THREADS"]]
    calls.write(json.dumps(call) + "\\n")
if "done.json" in os.listdir(folder) and "--resume" in argv:
    sys.exit(0)
total, start = config["train_cfg"]["max_iters"], 0
if "--resume" in argv:
    start = max([int(p.stem[5:]) for p in folder.glob("iter_*.pth")], default=0)
logs = folder / time.strftime(f"%Y%m%d_%H%M%S_{start:03}") / "vis_data"
logs.mkdir(parents=True, exist_ok=True)
for i in range(start + 1, total + 1):
    time.sleep(config["delay"])
    with open(logs / "scalars.json", "a") as file:
        file.write(json.dumps({"lr": 0.1, "loss": 5.0 / i, "iter": i, "step": i}) + "\\n")
    (folder / f"iter_{i}.pth").write_text(str(i))
    if Path(config["fail"]).exists() and Path(config["fail"]).read_text() in folder.name:
        sys.exit("the network is on fire")
lr, seed = float(options.get("lr", 1)), int(options.get("randomness.seed", 0))
score = 40 + 100 * lr + seed + (5 if init != "random" else 0) + config.get("bonus", 0)
metrics = {"mIoU": score, "coco/segm_mAP": score / 100}
with open(logs / "scalars.json", "a") as file:
    file.write(json.dumps({**metrics, "step": total}) + "\\n")
(folder / "done.json").write_text(json.dumps(
    {"config": argv[0], "seconds": 1, "checkpoint": f"iter_{total}.pth", "metrics": metrics}))
"""

TEST = """
import json, sys
from pathlib import Path
argv = sys.argv[1:]
folder = Path(argv[argv.index("--work-dir") + 1])
config = {}
exec(open(argv[0]).read(), config)
with open(Path(config["calls"]), "a") as calls:
    calls.write(json.dumps([folder.name, False, ""]) + "\\n")
metrics = json.loads((Path(argv[1]) / "done.json").read_text())["metrics"]
metrics = {key: value - 0.01 * value for key, value in metrics.items()}
(folder / "test.json").write_text(json.dumps({"metrics": metrics, "seconds": 1}))
"""

BENCHMARK = """
seeds = [0, 1]
workers = 1
estimate = dict(semseg=3)
panels = None
prepare = [dict(name="data", argv=["{python}", "-c", "open(r'{dir}/made', 'w')"], outputs=["made"])]
pretrain = [dict(name="mae", config="configs/mae.py", options=dict(data="{work_dir}/data"))]
inits = ["random", "mae"]
grid = [dict(lr=1e-3), dict(lr=1e-2)]
tasks = [
    dict(name="semseg", config="configs/seg.py", metrics=dict(mIoU="mIoU"), select="mIoU",
         grid=grid, grid_keys=dict(lr="lr")),
    dict(name="detection", config="configs/det.py", metrics=dict(mask_AP="coco/segm_mAP"),
         select="mask_AP", scale=100, grid=grid[:1], grid_keys=dict(lr="lr")),
]
"""


class FakeRepository:
    """Runs tools/benchmark.py's main on fakes."""

    def __init__(self, root: Path) -> None:
        self.root, self.work_dir = root, root / "out"
        self.fail, self.calls_file = root / "fail", root / "calls"
        for folder in ("tools", "configs"):
            (root / folder).mkdir()
        (root / "tools/train.py").write_text(TRAIN)
        (root / "tools/test.py").write_text(TEST)
        (root / "bench.py").write_text(BENCHMARK)
        for name in ("mae", "seg", "det"):
            self.config(name)

    def config(self, name: str, iters: int = 3, delay: float = 0.0, bonus: int = 0) -> None:
        """Write one of the three configs."""
        text = f"train_cfg = dict(max_iters={iters})\ndelay = {delay}\nbonus = {bonus}\n"
        text += f"calls = {str(self.calls_file)!r}\nfail = {str(self.fail)!r}\n"
        (self.root / f"configs/{name}.py").write_text(text)

    def command(self, *flags: str) -> list[str]:
        code = "import sys; from pathlib import Path; from mimseg.cli.benchmark import main; "
        code += f"sys.exit(main(sys.argv[1:], root=Path({str(self.root)!r})))"
        words = ["bench.py", "--work-dir", str(self.work_dir), *flags]
        return [sys.executable, "-c", code, *words]

    def start(self, *flags: str) -> subprocess.Popen:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self.command(*flags), cwd=self.root, stdout=pipe, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *flags: str) -> tuple[int, str]:
        """The same in this process: exit code and output."""
        output = io.StringIO()
        words = [str(self.root / "bench.py"), "--work-dir", str(self.work_dir), *flags]
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            code = main(words, root=self.root)
        return code, output.getvalue()

    def edit(self, old: str, new: str) -> None:
        """Change the benchmark's config."""
        text = (self.root / "bench.py").read_text()
        assert old in text
        (self.root / "bench.py").write_text(text.replace(old, new))

    def calls(self) -> list[list]:
        """[step, resumed, threads] of every tool call since the last time this was asked."""
        if not self.calls_file.exists():
            return []
        lines = self.calls_file.read_text().splitlines()
        self.calls_file.unlink()
        return [json.loads(line) for line in lines]

    def step(self, name: str) -> dict:
        return json.loads((self.work_dir / name / "step.json").read_text())


@pytest.fixture
def repository(tmp_path: Path) -> FakeRepository:
    return FakeRepository(tmp_path)
