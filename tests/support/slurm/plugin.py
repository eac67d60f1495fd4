"""Snakemake's SLURM plugin polling jobs of a real SLURM, without a workflow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from types import SimpleNamespace

from snakemake_executor_plugin_slurm import Executor, ExecutorSettings
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo


class PolledExecutor(Executor):
    """The plugin's poll of its jobs, with recorded reports."""

    def __init__(self, run, pause_s=0.5):
        self.pause_s = pause_s
        settings = ExecutorSettings(status_command="sacct", init_seconds_before_status_checks=1)
        self.workflow = SimpleNamespace(executor_settings=settings)
        self.logger = logging.getLogger("plugin")
        self.run_uuid = run
        self.status_rate_limiter = contextlib.nullcontext()
        self.next_seconds_between_status_checks = 1
        self._preemption_warning = False
        self._status_query_calls = self._status_query_failures = 0
        self._status_query_total_seconds = self._status_query_max_seconds = 0.0
        self._status_query_min_seconds = None
        self._status_query_cycle_rows = []
        self._failed_nodes = set()
        self.active = []
        self.outcomes = {}

    def watch(self, job):
        """Add a submitted job."""
        self.active.append(SubmittedJobInfo(None, external_jobid=job, aux={"slurm_logfile": Path(f"{job}.log")}))

    def report_job_success(self, job_info):
        """Record the plugin's report."""
        self.outcomes[job_info.external_jobid] = "done"

    def report_job_error(self, job_info, msg=None, **kwargs):
        """Record the plugin's report."""
        self.outcomes[job_info.external_jobid] = "failed"

    def poll(self):
        """Poll once; return the outcome of each job so far, ``lost`` if the plugin forgot it."""

        async def looked():
            return [job async for job in self.check_active_jobs(list(self.active))]

        before = [job.external_jobid for job in self.active]
        self.active = asyncio.run(looked())
        here = {job.external_jobid for job in self.active}
        for job in before:
            if job not in here:
                self.outcomes.setdefault(job, "lost")
        return {**dict.fromkeys(here, "waited for"), **self.outcomes}

    def poll_until_ended(self, job, seconds=300):
        """Poll until a job has ended; return its outcome."""
        deadline_s = time.monotonic() + seconds
        while (found := self.poll()[job]) == "waited for" and time.monotonic() < deadline_s:
            time.sleep(self.pause_s)
        return found
