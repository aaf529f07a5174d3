"""A pipeline on Apache Spark, on this machine: python examples/engines/on_spark.py

Needs the extra ``spark`` (make setup-spark; then .venv-spark/bin/python …). At the end the frames
are read once more, without a pipeline, as any Spark user may: by the data source ``headrace``.
"""

from __future__ import annotations

from pyspark.sql import SparkSession
from streams import WALKERS, make_pipeline, simulate

from bridge.engines.job import Job
from bridge.engines.results import read_results
from bridge.engines.spark import SparkEngine, register
from bridge.staging import Stager, StagerClient


def main() -> None:
    with Stager("tcp://127.0.0.1:0") as stager:
        stager.start()
        walkers = simulate(stager.address)
        job = Job(make_pipeline(), stager.address, expected=WALKERS)
        # cluster="spark://HOST:7077" for a cluster that is there already.
        statistics = SparkEngine(job, parallelism=2).run()
        walkers.join()
        print(f"{statistics.state}: {statistics.frames} frames on Spark")
        with StagerClient(stager.address) as client:
            for name in WALKERS:
                results = read_results(client, "double-well", name)
                print(name, len(results), "rows; last embedding", results["pca"][-1])

        spark = SparkSession.builder.master("local[2]").getOrCreate()
        register(spark)
        frames = spark.read.format("headrace").option("stager", stager.address).load()
        frames.groupBy("simulation").agg({"x": "avg", "step": "count"}).show()
        spark.stop()


if __name__ == "__main__":
    main()
