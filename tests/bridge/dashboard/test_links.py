"""Which pages of engines are known."""

from __future__ import annotations

from pathlib import Path

from bridge.dashboard.about import About
from bridge.dashboard.links import Links
from bridge.jobs.records import JobRecord, JobStore
from bridge.runs.directory import RunDirectory, write_json


def test_pages_of_jobs_and_of_the_configured_cluster(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "state")
    stagers = "tcp://127.0.0.1:5000,tcp://127.0.0.1:5001"
    for number, (pipeline, where) in enumerate(
        [("pca", stagers), ("pca", "tcp://127.0.0.1:9"), ("other", stagers)]
    ):
        store.write(
            JobRecord(
                id=f"job{number}", pipeline=pipeline, engine="flink", stagers=where,
                flink=f"f{number}", rest="127.0.0.1:8081",
            )
        )  # fmt: skip
    store.write(
        JobRecord(id="s", pipeline="pca", engine="spark", stagers=stagers, cluster="spark://h:7077")
    )
    links = Links(About(), store)
    assert links.find("pca", "tcp://127.0.0.1:5001") == [
        {"name": "Flink: job job0", "url": "http://127.0.0.1:8081/#/job/running/f0/overview"}
    ]
    # Where Spark's driver shows its page is known to the engine alone: not by its master's address.
    driver = {"engine": "spark", "page": "http://node3:4040"}
    assert links.find("pca", "tcp://127.0.0.1:5001", **driver)[0] == {
        "name": "Spark: this job", "url": "http://node3:4040"
    }  # fmt: skip
    flink = {"engine": "flink", "page": "http://127.0.0.1:8081/#/job/running/f0/overview"}
    assert len(links.find("pca", "tcp://127.0.0.1:5001", **flink)) == 1
    assert links.find("other", "", engine="spark", page="javascript:alert(1)") == links.find("", "")
    assert Links(About(), store).find("pca", "") == []
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    engine = {"kind": "flink", "cluster": "http://node:8081/"}
    write_json(directory.resolved, {"configuration": {"engine": engine}})
    assert Links(About(directory), store).find("x", "") == [
        {"name": "Flink's page", "url": "http://node:8081"}
    ]
    engine = {"kind": "spark", "cluster": "javascript:alert(1)"}
    write_json(directory.resolved, {"configuration": {"engine": engine}})
    assert Links(About(directory), store).find("x", "") == []
