"""Cells side by side on the GPU of one job of a real SLURM."""

from __future__ import annotations

import copy
import os
import shutil
from contextlib import ExitStack

import psutil
import pytest

from tests.support.cells import make_cell
from tests.support.output_digests import digests
from tests.support.slurm.run import Run
from tests.support.stages import run_stages
from tests.support.stub_outputs import write_config
from tests.support.workflow import TINY, link_workflow, run_snakemake

pytestmark = pytest.mark.slow

# Each process of a cell records when it computes; the one named `odd` fails. Calls wait until there are `together` of
# them, however late the machine starts the second. With `free`, the calls after so many wait for a file.
ATTACK = """
import os, time
from pathlib import Path
from gauntlet.registry import ATTACKS

@ATTACKS.register("timed", kind="bounded", norms=("linf",), access="scores", source="none")
def timed(model, x, y, *, epsilon, odd: bool = False, free: int = -1, together: int = 1):
    if odd:
        raise RuntimeError("odd")
    begun = time.time()
    with Path("processes").open("a") as processes:
        processes.write(f"{os.getpid()}\\n")
    while len(Path("processes").read_text().split()) < together and time.time() < begun + 300:
        time.sleep(0.1)
    if free >= 0 and Path("processes").read_text().split().index(str(os.getpid())) >= free:
        while not Path("released").exists():
            time.sleep(0.1)
    # Time for one more than there may be.
    time.sleep(3.0)
    with Path("times").open("a") as times:
        shared = os.environ.get("GAUNTLET_CELLS_PER_GPU")
        times.write(f"{os.environ.get('SLURM_JOB_ID')} {shared} {begun} {time.time()}\\n")
    return x
"""


# States in which a job of SLURM may still have processes.
ALIVE = ("RUNNING", "COMPLETING", "CONFIGURING")


def configured(cells_per_gpu, *names, odd=False, **options):
    """Return a configuration of attacks that take a while, on one model."""
    config = copy.deepcopy(TINY)
    timed = {"name": "timed:timed", "norm": "linf", "epsilons": [0.1]} | options
    config["experiments"]["small"] |= {
        "variants": {"softmax": {"model": "cnn"}},
        "attacks": {name: dict(timed) for name in names} | ({"odd": timed | {"odd": True}} if odd else {}),
        "certificates": {},
        "diagnostics": {"enabled": False},
    }
    config["execution"] = {"cluster": {"minutes": 5, "cells_per_gpu": cells_per_gpu}}
    return config


def recorded(folder):
    """List job, number of cells per GPU, begin and end of each call of the attack."""
    lines = [line.split() for line in (folder / "times").read_text().splitlines()]
    return [(job, cells, float(begin), float(end)) for job, cells, begin, end in lines]


def most_at_once(intervals):
    """Return the largest number of intervals that share an instant."""
    return max(sum(begin <= instant < end for begin, end in intervals) for instant, _ in intervals)


def attack_files(*names):
    """List the files of attacks."""
    return [make_cell("evaluate", "small", "softmax", 0, name).outputs[0] for name in names]


def attack_jobs(run):
    """List the resources of the jobs of attacks."""
    return [one.held for one in run.accounts() if one.kind.startswith(("rule_cells", "rule_evaluate"))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the attack, and with the data and the model that it is run on."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "timed.py").write_text(ATTACK)
    write_config(folder, configured(1, "a"))
    run_stages(folder, "prepare", "train")
    return folder


@pytest.mark.slurm
def test_cells_of_a_job_compute_side_by_side(slurm, trained, tmp_path):
    """They hold one GPU, and memory and CPUs for each; one that fails stops no other; their bytes are the same."""
    names = ("a", "b", "c", "d")
    with ExitStack() as ends:
        runs = {}
        for cells in (2, 1):
            folder = shutil.copytree(trained, tmp_path / str(cells))
            made = attack_files(*names, *(["odd"] if cells == 2 else []))
            config = configured(cells, *names, odd=cells == 2, together=cells)
            run = Run(folder, slurm, config, "--retries", "0", *map(str, made))
            runs[cells] = ends.enter_context(run)
            run.start()
        for cells, run in runs.items():
            assert run.wait() == int(cells == 2), run.logs()
    outcomes = {}
    for cells, run in runs.items():
        outcomes[cells] = {path: digest for path, digest in digests(run.folder).items() if "/evaluations/" in str(path)}
        calls = recorded(run.folder)
        assert len({job for job, *_ in calls}) == 1, calls
        assert {shared for _, shared, *_ in calls} == {"2" if cells == 2 else "None"}
        assert most_at_once([(begin, end) for _, _, begin, end in calls]) == cells
        (held,) = attack_jobs(run)
        assert "gres/gpu=1" in held
        assert f"cpu={cells}," in held
        assert f"mem={4000 * cells}M" in held
    assert outcomes[1]
    assert outcomes[1].items() <= outcomes[2].items()


@pytest.mark.slurm
def test_a_job_that_is_cancelled_is_continued(slurm, trained, tmp_path):
    """Finished cells are kept, and the run ends with all cells."""
    folder = shutil.copytree(trained, tmp_path / "there")
    names = ("a", "b", "c", "d")
    cells = [make_cell("evaluate", "small", "softmax", 0, name) for name in names]

    def finished():
        return [cell for cell in cells if all((folder / path).exists() for path in cell.outputs)]

    def held():
        return [int(process) for process in (folder / "processes").read_text().split()[2:]]

    with Run(folder, slurm, configured(2, *names, free=2), *map(str, attack_files(*names))) as run:
        run.start()
        run.wait_for(lambda: len(finished()) == 2 and len(held()) == 2)
        (job,) = run.jobs("cells", state="RUNNING")
        run.slurm.run("scancel", job.id)
        run.wait_for(lambda: job.id not in {one.id for one in run.jobs("cells") if one.state in ALIVE})
        # Without control groups the processes of cells outlive their job by the seconds for saving their work.
        run.wait_for(lambda: not any(map(psutil.pid_exists, held()[:2])))
        (folder / "released").touch()
        assert run.wait() == 0, run.logs()
    made = [number for number, *_ in recorded(folder)]
    assert len(made) == 4, made
    assert made.count(job.id) == 2, made
    assert len(finished()) == 4


def test_cells_of_a_local_run_share_the_gpu(trained, tmp_path, monkeypatch):
    """No more than `cells_per_gpu` compute at once, on more cores."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    (tmp_path / "sitecustomize.py").write_text(
        "from pathlib import Path\n"
        "from gauntlet.pipeline.cluster import gpu_sharing\n"
        f"gpu_sharing.DEVICES = Path({str(tmp_path / 'dev')!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    link_workflow(tmp_path)
    write_config(tmp_path, configured(2, "a", "b", "c", "d", together=2))
    run_snakemake(tmp_path, "--cores", "4", *(str(path) for path in attack_files("a", "b", "c", "d")))
    calls = recorded(tmp_path)
    assert {shared for _, shared, *_ in calls} == {"2"}
    assert most_at_once([(begin, end) for _, _, begin, end in calls]) == 2
