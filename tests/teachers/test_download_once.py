"""Two processes of one machine download a teacher's weights once, and fail together."""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch


def test_two_processes(tmp_path):
    launch = [sys.executable, __file__, str(tmp_path)]
    workers = [
        subprocess.Popen([*launch, str(rank)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=240)
        assert worker.returncode == 0, errors[-3000:]
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for name in ("shared", "there already", "on one"):
        assert all(rank[name] == "weights" for rank in ranks), ranks
    downloads = (tmp_path / "log").read_text().split()
    assert downloads.count("shared") == 1 and "cached" not in downloads
    # caches of their own, as in containers: the one that lacks the file fetches it
    assert downloads.count("own") == 1
    for name, reason in (("fails", "no such host"), ("fails in one", "disk full")):
        for rank in ranks:
            assert rank[name].startswith("teacher.weights = ") and reason in rank[name], ranks
    assert downloads.count("gone") == 1


def run(folder, rank):
    from mimseg.errors import UserError
    from mimseg.teachers import download, tokenizer

    def fake(address, path, progress):
        name = address.rpartition("/")[2]
        with (folder / "log").open("a") as log:
            log.write(f"{name}\n")
        time.sleep(0.5)  # the other process would come in between
        if name == "gone":
            raise OSError("no such host")
        Path(path).write_text("weights")

    def fetch(name):
        try:
            return Path(tokenizer._fetch(f"http://127.0.0.1/{name}")).read_text()
        except UserError as error:
            return str(error)

    def second_fails():
        try:
            with download.downloading("hub", "http://127.0.0.1/x"):
                if rank:
                    raise OSError("disk full")
        except UserError as error:
            return str(error)

    def cache(place):
        torch.hub.set_dir(str(folder / place))
        return folder / place / "checkpoints"

    torch.hub.download_url_to_file, download.unreachable = fake, lambda place: None
    caches = cache("hub")
    results = {"shared": fetch("shared")}
    if not rank:
        (caches / "cached").write_text("weights")
    torch.distributed.barrier()
    results["there already"] = fetch("cached")
    results["fails"] = fetch("gone")
    results["fails in one"] = second_fails()
    caches = cache(f"hub{rank}")
    if not rank:
        caches.mkdir(parents=True)
        (caches / "own").write_text("weights")
    results["on one"] = fetch("own")
    (folder / f"{rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{sys.argv[1]}/store", rank=int(sys.argv[2]), world_size=2
    )
    run(Path(sys.argv[1]), int(sys.argv[2]))
    torch.distributed.destroy_process_group()
