"""A plugin for a headbench that a test starts: its pipelines take few steps in a round."""

from bench import bench_pipelines

bench_pipelines.STEPS = 3
