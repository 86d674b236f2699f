"""Cells on a Ray cluster of several nodes on this machine: one is killed, and the records are those of a local run."""

import asyncio
import functools
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from running import ROOT, VAT_ONLY, fails, files, results, said_by, typed, until, write_suite

from benchmark.dispatch import Epoch
from benchmark.progress import Progress
from benchmark.workers import Job

pytestmark = pytest.mark.usefixtures("plain_pictures")

# Longer than a node takes to die, or a cluster to end its tasks:
LONG = (("epochs = 2", "epochs = 200"), ("decay_from = 1", "decay_from = 30"))


class Gate:
    """`Mailbox`, but an attempt goes no further than its first epoch until another has got there too.

    So two attempts are at work at once, on a node of one core each, however long either took to begin.
    """

    def __init__(self):
        self.letters, self.training = [], set()

    async def put(self, number, letter):
        self.letters.append((number, letter))
        if isinstance(letter, Epoch):
            self.training.add(number)
            for _ in range(6000):  # a minute; then let the test fail by what it asserts
                if len(self.training) > 1:
                    break
                await asyncio.sleep(0.01)

    async def take(self):
        letters, self.letters = self.letters, []
        return letters


def saving(*arguments):
    """In the place of `on_ray.task`, on a node: the state is saved after each epoch."""
    import benchmark.cell
    from benchmark import on_ray
    from zoo.training import train

    benchmark.cell.train = functools.partial(train, save_every_s=0)
    return on_ray.task(*arguments)


@pytest.fixture(scope="module")
def cluster():
    """A head without cores, and one node; more can be added and killed."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in paths.items():
            patch.setenv(name, value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        made.add_node(num_cpus=1)
        yield made
        ray.shutdown()
        made.shutdown()


def test_without_ray_there_is_one_line(tmp_path, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "benchmark.on_ray", raising=False)
    outcome = call("run", "--suite", write_suite(tmp_path), "--out", tmp_path / "run", "--engine", "ray")
    fails(outcome, "--engine ray", "[ray]")


@pytest.mark.parametrize("wrong", [("--ray-address", "auto"), ("--gpus-per-cell", "0.5")])
def test_flags_of_the_other_engine_are_refused(tmp_path, call, wrong):
    fails(call("run", "--suite", write_suite(tmp_path), "--out", tmp_path / "run", *wrong), "belong to --engine ray")
    ray = ("--engine", "ray", "--jobs", "2")
    fails(call("run", "--suite", write_suite(tmp_path), "--out", tmp_path / "run", *ray), "belongs to --engine local")


@pytest.mark.parametrize("address", ["nonsense", "", "a:b", "127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_that_is_none_is_refused(tmp_path, call, address):
    pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
    command = ("run", "--suite", write_suite(tmp_path), "--out", tmp_path / "run", "--engine", "ray")
    fails(call(*command, "--ray-address", address), f"--ray-address {address!r}: ")


@pytest.mark.parametrize(("asked", "most"), [("0.5", 0), ("2", 1)])
def test_more_gpus_than_any_node_has_are_not_waited_for(tmp_path, call, monkeypatch, asked, most):
    """Two nodes of one GPU each give no cell two; a node that is dead gives none."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
    nodes = [{"Alive": True, "Resources": {"CPU": 4.0}}, {"Alive": False, "Resources": {"GPU": 8.0}}]
    nodes += 2 * [{"Alive": True, "Resources": {"CPU": 4.0, "GPU": float(most)}}]
    left = []
    for name, stub in {
        "init": lambda *a, **k: None,
        "nodes": lambda: nodes,
        "shutdown": lambda: left.append(1),
    }.items():
        monkeypatch.setattr(ray, name, stub)
    command = ("run", "--suite", write_suite(tmp_path), "--out", tmp_path / "run", "--engine", "ray")
    fails(call(*command, "--gpus-per-cell", asked), f"--gpus-per-cell {asked}", f"more than {most} GPUs")
    assert left == [1]


def test_waiting_for_a_held_cell_is_no_work(monkeypatch):
    """With nothing to wait for in the cluster, a look at what happened takes as long as it may."""
    on_ray = pytest.importorskip("benchmark.on_ray", reason="ray is not installed: pip install -e '.[ray]'")
    monkeypatch.setattr(on_ray.ray, "get", lambda letters: letters)
    slept = []
    monkeypatch.setattr(on_ray.time, "sleep", slept.append)
    cluster = on_ray.Cluster(None, 0.0, Job(Path("run"), None, "cpu", None, False, 1, ()), None)
    cluster.mailbox = SimpleNamespace(take=SimpleNamespace(remote=list))
    assert list(cluster.events(0.5)) == []
    assert slept == [0.5]
    cluster.ended = [("a cell", "its end")]
    assert list(cluster.events(0.5)) == [("a cell", "its end")]
    assert slept == [0.5]


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["shared folder", "sent home"])
def test_a_node_is_killed_and_the_records_are_those_of_a_local_run(
    tmp_path,
    call,
    cluster,
    monkeypatch,
    shared,
):
    suite, told = write_suite(tmp_path, *LONG), []
    monkeypatch.setattr("benchmark.on_ray.Mailbox", Gate)
    monkeypatch.setattr("benchmark.on_ray.task", saving)
    assert call("run", "--suite", suite, "--out", tmp_path / "local")[0] == 0
    if not shared:
        monkeypatch.setattr("benchmark.on_ray.sees", lambda path, content: False)
    second = cluster.add_node(num_cpus=1)
    kept = Progress.epoch

    def epoch(self, cell, epoch, errors):
        told.append(cell.name)
        if len(set(told)) == 2 and second in cluster.worker_nodes:
            cluster.remove_node(second, allow_graceful=False)
        kept(self, cell, epoch, errors)

    monkeypatch.setattr(Progress, "epoch", epoch)
    command = ("run", "--suite", suite, "--out", tmp_path / "run", "--engine", "ray", "--ray-address", cluster.address)
    code, out, err = call(*command)
    assert (code, err) == (0, [])
    assert second not in cluster.worker_nodes
    (at,) = (at for at, line in enumerate(out) if ": once more, " in line)
    again = out[at].split(":")[0]
    assert int(next(line for line in out[at:] if line.startswith(f"{again}: epoch ")).split()[2]) > 1  # it is resumed
    assert [line for line in out if line.endswith(": complete")] != []
    assert results(tmp_path / "run") == results(tmp_path / "local")
    assert not [name for name in files(tmp_path / "run") if "partial" in name or "lock" in name or "state" in name]
    typed = json.loads((tmp_path / "run/cells/vat-50/provenance.json").read_text())["stages"][0]["sittings"]
    assert "--engine ray" in typed[0]["command"]
    assert "nothing to do" in call(*command)[1][0]


@pytest.mark.slow
def test_cells_share_a_gpu_of_a_node(tmp_path, call, cluster):
    """What Ray counts as one, on a node that needs none: cells go where GPUs are, two to each."""
    suite = write_suite(tmp_path)
    there = cluster.add_node(num_cpus=2, num_gpus=1)
    command = ("run", "--suite", suite, "--out", tmp_path / "run", "--engine", "ray", "--ray-address", cluster.address)
    try:
        fails(call(*command, "--gpus-per-cell", "2"), "more than 1 GPUs")
        code, out, err = call(*command, "--gpus-per-cell", "0.5", "--device", "cpu")
    finally:
        cluster.remove_node(there)
    assert (code, err) == (0, [])
    assert {"ladder-50: complete", "vat-50: complete"} <= set(out)
    assert call("run", "--suite", suite, "--out", tmp_path / "local")[0] == 0
    assert results(tmp_path / "run") == results(tmp_path / "local")


@pytest.mark.slow
def test_a_mailbox_that_is_killed_ends_the_run_in_one_line_and_the_next_goes_on(tmp_path, call, cluster, monkeypatch):
    """As by a machine out of memory: Ray's own processes are among those that can be killed."""
    from benchmark import on_ray

    suite, kept = write_suite(tmp_path, VAT_ONLY, *LONG), on_ray.Cluster.events

    def events(pool, wait_s):
        for cell, event in kept(pool, wait_s):
            yield cell, event
            if isinstance(event, Epoch):
                on_ray.ray.kill(pool.mailbox)

    command = ("run", "--suite", suite, "--out", tmp_path / "run", "--engine", "ray", "--ray-address", cluster.address)
    with monkeypatch.context() as patch:
        patch.setattr(on_ray.Cluster, "events", events)
        fails(call(*command), "the cluster gave up (", "ActorDiedError", "the same command goes on", code=1)
    code, _, err = call(*command)
    assert (code, err) == (0, [])


@pytest.mark.slow
def test_a_node_that_has_just_died_does_not_stop_a_run(tmp_path, call, cluster):
    """Ray takes seconds to see that a node is gone, and still offers it."""
    import ray

    suite = write_suite(tmp_path)
    cluster.remove_node(cluster.add_node(num_cpus=1), allow_graceful=False)
    ray.init(address=cluster.address, log_to_driver=False)
    offered = [node for node in ray.nodes() if node["Alive"]]
    ray.shutdown()
    assert len(offered) > 1 + len(cluster.worker_nodes)  # else this tests nothing
    command = ("run", "--suite", suite, "--out", tmp_path / "run", "--engine", "ray", "--ray-address", cluster.address)
    code, out, err = call(*command)
    assert (code, err) == (0, [])
    assert "vat-50: complete" in out


@pytest.mark.slow
def test_interrupted_on_a_cluster_of_its_own_a_run_goes_on(tmp_path, call):
    """Without an address a cluster is started here; a Ctrl-C goes to all processes of the terminal's group."""
    pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
    suite = write_suite(tmp_path, *LONG)
    command = ("run", "--suite", suite, "--out", tmp_path / "run", "--engine", "ray")
    with typed(*command, start_new_session=True) as child:
        until(child, "vat-50: epoch 3 ")
        os.killpg(child.pid, signal.SIGINT)
        code, _, err = said_by(child)
    assert (code, [line for line in err if line]) == (130, ["error: interrupted; the same command goes on from here"])
    assert not (tmp_path / "run/cells/vat-50/records.csv").exists()
    code, out, err = said_by(typed(*command))
    assert (code, err) == (0, [])
    assert "vat-50: complete" in out
    assert call("run", "--suite", suite, "--out", tmp_path / "local")[0] == 0
    assert results(tmp_path / "run") == results(tmp_path / "local")
