"""A setback: a try at a job that ended its process, took too long, or whose worker was lost."""

from node.domain.jobs import JobState, retry_delay_s
from node.stages.ports import Log, Queue, Row, SetbackLedger

# Tries that ended so before a person must look: such a job harms the others, too.
MOST_SETBACKS = 3
# A lack of memory, or a file that cannot be read, is tried again so often before a person must look.
RESOURCE_ATTEMPTS = 6


def set_back(row: Row, reason: str, *, ledger: SetbackLedger, queue: Queue, now: float, log: Log) -> None:
    """Note how a try at a job ended, and let it be tried again later, or fail where it happened too often."""
    job, attempt = row["job"], row["attempt"]
    setbacks = [*row["setbacks"], {"attempt": attempt, "reason": reason, "at": now}]
    if len(setbacks) >= MOST_SETBACKS:
        said = f"{reason} Given up after {len(setbacks)} such tries."
        ledger.move_job(job, JobState.FAILED, reason=said, setbacks=setbacks)
        log(f"job {JobState.FAILED}", job=job, reason=said)
        return
    # Behind the jobs that wait already: they must not suffer from this one.
    delay_s = retry_delay_s(len(setbacks), first_s=2.0, longest_s=60.0)
    told = {"reason": reason, "attempt": attempt + 1, "setbacks": setbacks}
    enqueue = queue.contour(job, attempt=attempt + 1, delay_s=delay_s, priority=row["priority"])
    ledger.postpone_job(job, told, enqueue)
    log("job waits", job=job, reason=reason, again_in_s=delay_s)
